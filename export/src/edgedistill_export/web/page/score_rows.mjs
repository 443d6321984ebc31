// Scores rows under Node with a written page's own files, as the page does in a browser.
// Argument: the page's folder. stdin: [{"response": "…"}]; stdout: {"scores": […]}, or {"refused": "why"}.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const script = (name) => import(pathToFileURL(join(folder, "page", name)).href);
const { parseJson } = await script("json.mjs");
const { Scorer } = await script("scorer.mjs");

async function scored() {
  const content = (path) => readFile(join(folder, path));
  const page = parseJson(await content("page.json"));
  const parts = {};
  for (const [name, { path }] of Object.entries(page.files)) {
    const found = await content(path);
    parts[name] = path.endsWith(".json") ? JSON.parse(found) : new Uint8Array(found).buffer;
  }
  const glue = pathToFileURL(join(folder, "vendor/ort-wasm-simd-threaded.mjs")).href;
  const scorer = await Scorer.open(page, parts, { threads: 1, glue });
  await scorer.check(parts.golden);
  const scores = [];
  for (const row of JSON.parse(await text(process.stdin))) {
    const { ids } = scorer.encode(scorer.readable(row));
    const score = await scorer.score(row);
    scores.push({ ...score, probabilities: Object.fromEntries(score.probabilities), ids });
  }
  return { scores };
}

const answer = await scored().catch((error) => ({ refused: error.message }));
process.stdout.write(JSON.stringify(answer), () => process.exit(0));
