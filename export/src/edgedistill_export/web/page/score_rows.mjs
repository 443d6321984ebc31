// Scores rows under Node with a written page's own files, as the page does in a browser.
// Arguments: the page's folder, the number of threads. stdin: [{"response": "…"}]; stdout: {"scores", "difference"}.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";
import { Scorer } from "./scorer.mjs";

const [folder, threads] = process.argv.slice(2);
const content = async (path) => readFile(join(folder, path));
const page = JSON.parse(await content("page.json"));
const parts = {};
for (const [name, { path }] of Object.entries(page.files)) {
  const found = await content(path);
  parts[name] = path.endsWith(".json") ? JSON.parse(found) : new Uint8Array(found).buffer;
}
const glue = pathToFileURL(join(folder, "vendor/ort-wasm-simd-threaded.mjs")).href;
const scorer = await Scorer.open(page, parts, { threads: Number(threads), glue });
const difference = await scorer.check(parts.golden);
const scores = [];
for (const row of JSON.parse(await text(process.stdin))) {
  const { ids } = scorer.encode(scorer.readable(row));
  scores.push({ ...(await scorer.score(row)), ids });
}
process.stdout.write(JSON.stringify({ scores, difference }), () => process.exit(0));
