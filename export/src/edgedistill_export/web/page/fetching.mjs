// Fetches the page's files and checks each against its SHA-256 in page.json.
import { parseJson } from "./json.mjs";

/** A file is missing or has changed. */
export class FileFault extends Error {}

/** Fetch one file of the page, given as `{ path, integrity }` as in page.json; returns the HTTP response. */
export async function fetched(root, { path, integrity }) {
  let answer;
  try {
    answer = await fetch(new URL(path, root), { cache: "no-cache", credentials: "omit", integrity, redirect: "error" });
  } catch {
    throw new FileFault(`${path} cannot be read or has changed. Copy the folder again.`);
  }
  if (!answer.ok) throw new FileFault(`${path} is missing. Copy the folder again.`);
  return answer;
}

/** Fetch the page's description, page.json. */
export async function fetchPage(root) {
  return parseJson(await (await fetched(root, { path: "page.json" })).text());
}

/** Fetch what a scorer needs; `onFile(file)` is called before each is read. */
export async function fetchParts(root, page, onFile = () => {}) {
  const parts = {};
  for (const [name, file] of Object.entries(page.files)) {
    onFile(file);
    const answer = await fetched(root, file);
    parts[name] = await (file.path.endsWith(".json") ? answer.json() : answer.arrayBuffer());
  }
  return parts;
}
