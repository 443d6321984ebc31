// Requests and replies between a page, its worker and the worker's runners.
import { Fault } from "./faults.mjs";

/** A request failed; `kind` classifies the error, `key` and `values` are those of a `Fault`. */
export class Refusal extends Error {
  constructor({ kind, message, key, values }) {
    super(message);
    Object.assign(this, { kind, key, values });
  }
}

/** Sends requests to a worker and awaits the replies. `onMessage` receives its other messages. */
export class Asker {
  constructor(worker, onMessage = () => {}) {
    this.worker = worker;
    this.onMessage = onMessage;
    this.waiting = new Map();
    this.last = 0;
    this.fault = null;
    worker.addEventListener("message", ({ data }) => this.heard(data));
    worker.addEventListener("error", () => this.broken());
  }

  /** Request a task; returns a promise with the request's `id`, which `stop` takes. */
  ask(message, progress = () => {}) {
    const id = (this.last += 1);
    const answer = new Promise((resolve, reject) => {
      if (this.fault) reject(this.fault);
      this.waiting.set(id, { resolve, reject, progress });
      this.worker.postMessage({ ...message, id });
    });
    return Object.assign(answer, { id });
  }

  stop(id) {
    this.worker.postMessage({ stop: id });
  }

  heard(data) {
    if (data.event) {
      this.onMessage(data);
      return;
    }
    const asked = this.waiting.get(data.id);
    if (data.progress) {
      asked.progress(data.progress);
      return;
    }
    this.waiting.delete(data.id);
    if (data.failed) asked.reject(new Refusal(data.failed));
    else asked.resolve(data.done);
  }

  broken() {
    this.fault = new Refusal(refusal("other", new Fault("fault_workers")));
    for (const { reject } of this.waiting.values()) reject(this.fault);
    this.waiting.clear();
  }
}

/**
 * Reply to requests in this worker. `tasks` are functions by name, `kinds` the errors whose message may be sent, by name;
 * `stopped` collects the ids of requests to stop.
 */
export function answering(tasks, kinds, stopped = new Set()) {
  addEventListener("message", async ({ data }) => {
    if (data.stop) {
      stopped.add(data.stop);
      return;
    }
    try {
      postMessage({ id: data.id, done: await tasks[data.task](data) });
    } catch (error) {
      postMessage({ id: data.id, failed: failure(error, kinds) });
    }
  });
}

function failure(error, kinds) {
  if (error instanceof Refusal) return refusal(error.kind, error);
  const kind = Object.keys(kinds).find((name) => error instanceof kinds[name]);
  if (kind) return refusal(kind, error);
  // Only the page's own errors are known not to contain text of a response.
  return refusal("other", new Fault("fault_browser", { error: error.name }));
}

function refusal(kind, { message, key, values }) {
  return { kind, message, key, values };
}
