// Fetches the page's own files, each checked against the SHA-256 that it was written with.

/** A file is missing or was changed. */
export class FileFault extends Error {}

/** Return the response of a file of the page; `file` is `{ path, integrity }`, as page.json has it. */
export async function fetched(root, { path, integrity }) {
  let answer;
  try {
    answer = await fetch(new URL(path, root), { cache: "no-cache", credentials: "omit", integrity, redirect: "error" });
  } catch {
    throw new FileFault(`${path} cannot be read, or is not as it was written. Copy the folder anew.`);
  }
  if (!answer.ok) throw new FileFault(`${path} is missing. Copy the folder anew.`);
  return answer;
}

/** Fetch what a scorer needs; `told(path)` hears of each before it is read. */
export async function fetchParts(root, page, told = () => {}) {
  const parts = {};
  for (const [name, kind] of [["wasm", "arrayBuffer"], ["tokenizer", "json"], ["reading", "json"], ["golden", "json"], ["graph", "arrayBuffer"]]) {
    told(page.files[name]);
    parts[name] = await (await fetched(root, page.files[name]))[kind]();
  }
  return parts;
}
