// The page's interface to the worker.
import { startWorker } from "./places.mjs";
import { Asker } from "./talking.mjs";

export class Engine {
  /** `onMessage(message)` receives the loading progress. */
  constructor(onMessage) {
    this.asker = new Asker(startWorker("worker"), onMessage);
  }

  load() {
    return this.asker.ask({ task: "load" });
  }

  score(inputs) {
    return this.asker.ask({ task: "score", inputs });
  }

  /** The columns of a file, and those that seem to contain the inputs. */
  inspect(file) {
    return this.asker.ask({ task: "inspect", file });
  }

  /** Score a file; `progress(counts)` receives the progress, and `stop()` of the result stops it. */
  grade(file, column, progress) {
    const done = this.asker.ask({ task: "grade", file, column }, progress);
    return { done, stop: () => this.asker.stop(done.id) };
  }
}
