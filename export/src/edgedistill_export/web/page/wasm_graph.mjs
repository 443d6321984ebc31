// A graph in onnxruntime's WebAssembly.
import * as ort from "../vendor/ort.wasm.min.mjs";

const OUTPUT = "logits";
const NOVELTY = "novelty";

export class WasmGraph {
  /** `graph` and `wasm` are bytes; `glue` is the address of the module that goes with `wasm`. */
  static async open({ graph, wasm }, { threads, glue, hasNovelty }) {
    Object.assign(ort.env.wasm, { numThreads: threads, wasmBinary: wasm, wasmPaths: { mjs: glue } });
    ort.env.logLevel = "error";
    const session = await ort.InferenceSession.create(new Uint8Array(graph), { executionProviders: ["wasm"] });
    return new WasmGraph(session, hasNovelty ? [OUTPUT, NOVELTY] : [OUTPUT]);
  }

  constructor(session, outputs) {
    this.session = session;
    this.outputs = outputs;
  }

  /** The logits of a row, and its novelty; null for a model that does not measure it. */
  async run({ ids, typeIds }) {
    const tensor = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    const given = { input_ids: ids, attention_mask: ids.map(() => 1), token_type_ids: typeIds };
    const feeds = Object.fromEntries(this.session.inputNames.map((name) => [name, tensor(given[name])]));
    const found = await this.session.run(feeds, this.outputs);
    const novelty = this.outputs.includes(NOVELTY) ? found[NOVELTY].data[0] : null;
    return { logits: Array.from(found[OUTPUT].data), novelty };
  }
}
