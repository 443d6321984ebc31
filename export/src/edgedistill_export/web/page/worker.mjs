// Works beside the page, so that the page stays usable: reads files, and hands responses to copies of the model.
import { TableFault } from "./csv.mjs";
import { grade, inspect } from "./grading.mjs";
import { answering, Asker } from "./talking.mjs";

/** More copies of the model than that take more memory than they are worth. */
const MOST_RUNNERS = 4;
/** Rows from which on a second copy is worth its loading. */
const MANY = 100;
/** Rows that wait at each copy, so that none is idle. */
const AHEAD = 3;
/** Milliseconds between two reports to the page. */
const REPORT = 40;

class Stopped extends Error {}

const stopped = new Set();
const runners = [];
let page;
let more;

const tasks = {
  async load() {
    const told = (message) => {
      if (message.told === "page") page = message.page;
      postMessage(message);
    };
    const runner = started(told);
    const checked = await runner.ask({ task: "load", check: true });
    runners.push(runner);
    return checked;
  },
  score: ({ inputs }) => score(inputs),
  inspect: async ({ file }) => inspect(await file.arrayBuffer(), page),
  async grade({ id, file, column }) {
    let reported = performance.now();
    const pause = async (counts) => {
      if (counts.rows >= MANY) more ??= addRunners();
      if (performance.now() - reported < REPORT && counts.read < counts.rows) return;
      postMessage({ id, progress: counts });
      // What the page wants comes in between two tasks of this worker.
      await new Promise((resolve) => setTimeout(resolve));
      reported = performance.now();
      if (stopped.delete(id)) throw new Stopped();
    };
    const ahead = () => AHEAD * runners.length;
    const { counts, shown, lines } = await grade(await file.arrayBuffer(), page, column, { score, ahead, pause });
    return { counts, shown, table: new Blob(lines, { type: "text/csv" }) };
  },
};

function started(told = () => {}) {
  const worker = new Worker(new URL("runner.mjs", import.meta.url), { type: "module" });
  return Object.assign(new Asker(worker, told), { worker });
}

/** One copy for each core; those that cannot be had are done without. */
async function addRunners() {
  const most = Math.min(navigator.hardwareConcurrency || 1, MOST_RUNNERS);
  for (let count = runners.length; count < most; count += 1) {
    const runner = started();
    try {
      await runner.ask({ task: "load", check: false });
    } catch {
      runner.worker.terminate();
      return;
    }
    runners.push(runner);
  }
}

/** The copy with the least work scores it. */
function score(inputs) {
  const free = runners.reduce((one, other) => (other.waiting.size < one.waiting.size ? other : one));
  return free.ask({ task: "score", inputs });
}

answering(tasks, { stopped: Stopped, table: TableFault }, stopped);
