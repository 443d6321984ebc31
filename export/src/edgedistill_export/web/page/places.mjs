// Where the page's files and scripts are: in its folder. In a page of one file, `in_one_file.mjs` takes this module's place.
import { FileFault } from "./faults.mjs";

const ROOT = new URL("../", import.meta.url);

/** The address of the module that goes with onnxruntime's WebAssembly. */
export const GLUE = new URL("vendor/ort-wasm-simd-threaded.mjs", ROOT).href;
export const isOneFile = false;

/** Start a worker by its script's name. */
export function startWorker(name) {
  return new Worker(new URL(`${name}.mjs`, import.meta.url), { type: "module" });
}

/** The bytes of a file of the page, given as `{ path, integrity }` as in page.json, checked against its SHA-256. */
export async function bytesOf({ path, integrity }) {
  let answer;
  try {
    answer = await fetch(new URL(path, ROOT), { cache: "no-cache", credentials: "omit", integrity, redirect: "error" });
  } catch {
    throw new FileFault("fault_changed", { path });
  }
  if (!answer.ok) throw new FileFault("fault_missing", { path });
  return answer.arrayBuffer();
}
