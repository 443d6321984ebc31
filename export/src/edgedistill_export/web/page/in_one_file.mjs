// Takes the place of `places.mjs` in a page of one file: the page hands its files and its script to the workers.
import { FileFault } from "./faults.mjs";

export const GLUE = "vendor/ort-wasm-simd-threaded.mjs";
export const isOneFile = true;
const STEP = 2 ** 20;

/** `script`: the text of this script as a Blob; `files`: each file by its path, as gzip in a Blob. */
let held = null;
// Before `answering` listens, so that it never hears of this message.
if (typeof document === "undefined") {
  addEventListener("message", (event) => {
    if (!event.data.held) return;
    held = event.data.held;
    event.stopImmediatePropagation();
  });
}

/** Start a worker by its script's name. */
export function startWorker(name) {
  held ??= inDocument();
  const worker = new Worker(URL.createObjectURL(held.script), { name });
  worker.postMessage({ held });
  return worker;
}

/** The bytes of a file of the page; its gzip has a checksum. */
export async function bytesOf({ path }) {
  try {
    const unpacked = held.files.get(path).stream().pipeThrough(new DecompressionStream("gzip"));
    return await new Response(unpacked).arrayBuffer();
  } catch {
    throw new FileFault("fault_part", { path });
  }
}

function inDocument() {
  const files = new Map();
  for (const element of document.querySelectorAll("script[data-path]")) {
    files.set(element.dataset.path, blobOf(element));
    element.remove();
  }
  return { script: new Blob([document.getElementById("script").textContent], { type: "text/javascript" }), files };
}

function blobOf(element) {
  const text = element.textContent.trim();
  const parts = [];
  try {
    for (let at = 0; at < text.length; at += STEP) parts.push(Uint8Array.from(atob(text.slice(at, at + STEP)), codeOf));
  } catch {
    throw new FileFault("fault_part", { path: element.dataset.path });
  }
  return new Blob(parts);
}

function codeOf(letter) {
  return letter.charCodeAt(0);
}
