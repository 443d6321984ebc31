// Reads the page's description and the files that a scorer needs.
import { parseJson } from "./json.mjs";
import { bytesOf } from "./places.mjs";

/** Read the page's description, page.json. */
export async function fetchPage() {
  return parseJson(textOf(await bytesOf({ path: "page.json" })));
}

/** Read what a scorer needs; `onFile(name, file)` is called before each is read. */
export async function fetchParts(page, onFile = () => {}) {
  const parts = {};
  for (const [name, file] of Object.entries(page.files)) {
    onFile(name, file);
    const bytes = await bytesOf(file);
    parts[name] = file.path.endsWith(".json") ? JSON.parse(textOf(bytes)) : bytes;
  }
  return parts;
}

function textOf(bytes) {
  return new TextDecoder().decode(bytes);
}
