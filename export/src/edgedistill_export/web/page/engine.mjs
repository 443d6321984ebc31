// The page's end of the worker.
import { Asker } from "./talking.mjs";

export class Engine {
  /** `told(message)` hears how the loading goes. */
  constructor(told) {
    this.asker = new Asker(new Worker(new URL("worker.mjs", import.meta.url), { type: "module" }), told);
  }

  load() {
    return this.asker.ask({ task: "load" });
  }

  score(inputs) {
    return this.asker.ask({ task: "score", inputs });
  }

  /** The columns of a file, and which of them seem to hold the inputs. */
  inspect(file) {
    return this.asker.ask({ task: "inspect", file });
  }

  /** Score a file; `progress(counts)` hears how it goes, `stop()` of what is returned ends it. */
  grade(file, column, progress) {
    const done = this.asker.ask({ task: "grade", file, column }, progress);
    return { done, stop: () => this.asker.stop(done.id) };
  }
}
