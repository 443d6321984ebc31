// Runs in the background, so that the page remains responsive: reads files, and distributes responses to runners.
import { TableFault } from "./faults.mjs";
import { grade, inspect } from "./grading.mjs";
import { startWorker } from "./places.mjs";
import { answering, Asker } from "./talking.mjs";

/** Maximum number of copies of the model; more are not worth their memory. */
const MOST_RUNNERS = 4;
/** Number of rows from which more copies are worth their loading time. */
const MANY = 100;
/** Queued rows per copy, so that none is idle. */
const AHEAD = 3;
/** Milliseconds between two progress messages. */
const REPORT = 40;

class Stopped extends Error {}

const stopped = new Set();
const runners = [];
let page;
let more;

const tasks = {
  async load() {
    const onMessage = (message) => {
      if (message.event === "page") page = message.page;
      postMessage(message);
    };
    const runner = started(onMessage);
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
      // Lets this worker receive messages of the page, such as a stop.
      await new Promise((resolve) => setTimeout(resolve));
      reported = performance.now();
      if (stopped.delete(id)) throw new Stopped();
    };
    const ahead = () => AHEAD * runners.length;
    const { lines, ...graded } = await grade(await file.arrayBuffer(), page, column, { score, ahead, pause });
    return { ...graded, table: new Blob(lines, { type: "text/csv" }) };
  },
};

function started(onMessage = () => {}) {
  const worker = startWorker("runner");
  return Object.assign(new Asker(worker, onMessage), { worker });
}

/** One copy per core; stops at the first copy that cannot be loaded. */
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

/** Score with the least busy copy. */
function score(inputs) {
  const free = runners.reduce((one, other) => (other.waiting.size < one.waiting.size ? other : one));
  return free.ask({ task: "score", inputs });
}

answering(tasks, { stopped: Stopped, table: TableFault }, stopped);
