// Runs beside the page, so that the page stays usable: loads the model, scores one response or a whole file.
import { TableFault } from "./csv.mjs";
import { fetched, FileFault, fetchParts } from "./fetching.mjs";
import { grade, inspect } from "./grading.mjs";
import { Drift, Scorer, Unscorable } from "./scorer.mjs";

const ROOT = new URL("../", import.meta.url);
/** More threads than that do not make one short response faster. */
const MOST_THREADS = 4;
/** Milliseconds between two looks at what the page wants. */
const LOOK = 40;

class Stopped extends Error {}

let page;
let scorer;
const stopped = new Set();
/** Responses are scored one after another, whoever asks. */
let turn = Promise.resolve();

const tasks = {
  async load() {
    page = await (await fetched(ROOT, { path: "page.json" })).json();
    postMessage({ told: "page", page });
    const started = performance.now();
    const parts = await fetchParts(ROOT, page, (file) => postMessage({ told: "reading", file }));
    postMessage({ told: "starting" });
    const threads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS) : 1;
    scorer = await Scorer.open(page, parts, { threads, glue: new URL("vendor/ort-wasm-simd-threaded.mjs", ROOT).href });
    const rows = parts.golden.rows.length;
    const difference = await scorer.check(parts.golden, (done) => postMessage({ told: "checking", done, rows }));
    return { threads, difference, rows, tolerance: parts.golden.tolerance, milliseconds: performance.now() - started };
  },
  score: ({ inputs }) => inTurn(inputs),
  inspect: async ({ file }) => inspect(await file.arrayBuffer(), page),
  async grade({ id, file, column }) {
    let looked = performance.now();
    const pause = async (counts) => {
      if (performance.now() - looked < LOOK && counts.read < counts.rows) return;
      postMessage({ id, progress: counts });
      // What the page wants comes in between two tasks of this worker.
      await new Promise((resolve) => setTimeout(resolve));
      looked = performance.now();
      if (stopped.delete(id)) throw new Stopped();
    };
    const { counts, shown, lines } = await grade(await file.arrayBuffer(), page, column, inTurn, pause);
    return { counts, shown, table: new Blob(lines, { type: "text/csv" }) };
  },
};

function inTurn(inputs) {
  const scored = turn.then(() => scorer.score(inputs));
  turn = scored.catch(() => {});
  return scored;
}

addEventListener("message", async ({ data }) => {
  if (data.stop) {
    stopped.add(data.stop);
    return;
  }
  try {
    postMessage({ id: data.id, done: await tasks[data.task](data) });
  } catch (error) {
    postMessage({ id: data.id, failed: { kind: kindOf(error), message: messageOf(error) } });
  }
});

function kindOf(error) {
  const kinds = { drift: Drift, file: FileFault, stopped: Stopped, table: TableFault, unscorable: Unscorable };
  return Object.keys(kinds).find((kind) => error instanceof kinds[kind]) ?? "other";
}

function messageOf(error) {
  // Only our own errors are known to hold nothing of a response.
  return kindOf(error) === "other" ? `This browser cannot run the model (${error.name}).` : error.message;
}
