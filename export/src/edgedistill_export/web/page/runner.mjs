// One copy of the model: loads it, and scores responses one after another.
import { FileFault } from "./faults.mjs";
import { fetchPage, fetchParts } from "./fetching.mjs";
import { GLUE } from "./places.mjs";
import { Drift, Scorer, Unscorable } from "./scorer.mjs";
import { answering } from "./talking.mjs";

let scorer;
/** The last scheduled response: a session scores one at a time. */
let turn = Promise.resolve();

const tasks = {
  /** Load the model, and run the self-check if `check` is set. `threads` above 1 require an isolated page. */
  async load({ check, threads = 1 }) {
    const started = performance.now();
    const page = await fetchPage();
    postMessage({ event: "page", page });
    const parts = await fetchParts(page, (name, file) => postMessage({ event: "reading", name, file }));
    postMessage({ event: "starting" });
    scorer = await Scorer.open(page, parts, { threads, glue: GLUE });
    if (!check) return null;
    const { tolerance, rows } = parts.golden;
    const difference = await scorer.check(parts.golden, (done) =>
      postMessage({ event: "checking", done, rows: rows.length }),
    );
    return { difference, tolerance, rows: rows.length, milliseconds: performance.now() - started };
  },
  score({ inputs }) {
    const scored = turn.then(() => scorer.score(inputs));
    turn = scored.catch(() => {});
    return scored;
  },
};

answering(tasks, { drift: Drift, file: FileFault, unscorable: Unscorable });
