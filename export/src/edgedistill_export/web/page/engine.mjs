// The page's end of the worker: asks, and waits for the answer.

/** Something was asked that the worker could not do; `kind` says whose fault it is. */
export class Refusal extends Error {
  constructor({ kind, message }) {
    super(message);
    this.kind = kind;
  }
}

export class Engine {
  /** `told(message)` hears how the loading goes. */
  constructor(told) {
    this.told = told;
    this.waiting = new Map();
    this.last = 0;
    this.worker = new Worker(new URL("worker.mjs", import.meta.url), { type: "module" });
    this.worker.addEventListener("message", ({ data }) => this.heard(data));
    this.worker.addEventListener("error", () => this.broken());
  }

  load() {
    return this.ask({ task: "load" });
  }

  score(inputs) {
    return this.ask({ task: "score", inputs });
  }

  inspect(file) {
    return this.ask({ task: "inspect", file });
  }

  /** Score a file; `progress(counts)` hears how it goes, `stop()` of what is returned ends it. */
  grade(file, column, progress) {
    const done = this.ask({ task: "grade", file, column }, progress);
    const id = this.last;
    return { done, stop: () => this.worker.postMessage({ stop: id }) };
  }

  ask(message, progress = () => {}) {
    const id = (this.last += 1);
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, progress });
      this.worker.postMessage({ ...message, id });
    });
  }

  heard(data) {
    const asked = this.waiting.get(data.id);
    if (data.told) this.told(data);
    else if (data.progress) asked.progress(data.progress);
    else {
      this.waiting.delete(data.id);
      if (data.failed) asked.reject(new Refusal(data.failed));
      else asked.resolve(data.done);
    }
  }

  broken() {
    const fault = { kind: "other", message: "This browser cannot run the model: it lacks WebAssembly or module workers." };
    for (const { reject } of this.waiting.values()) reject(new Refusal(fault));
    this.waiting.clear();
  }
}
