// Scores one response at a time with a graph and a tokenizer, by the rules of `edgedistill_serve.scoring.scorer`.
import { contextHash } from "./contexts.mjs";
import { Encoder } from "./encoder.mjs";
import { Fault } from "./faults.mjs";
import { NanoGraph } from "./nano.mjs";
import { redactor } from "./redaction.mjs";
import { blankTest } from "./visible_text.mjs";

/** A golden novelty below this is compared by its absolute difference. */
const SMALL = 1e-3;
const CONTEXT = ["question", "reference_answer", "rubric"];

/** This response cannot be scored; the others can. */
export class Unscorable extends Fault {}

/** The graph does not reproduce its golden scores in this browser. */
export class Drift extends Fault {}

export class Scorer {
  /**
   * `page` is page.json; `parts` holds `graph` and `wasm`, or for a nano student `nano`, as bytes and `tokenizer` and
   * `reading` as objects; `glue` is the address of the module that goes with `wasm`.
   */
  static async open(page, parts, { threads, glue }) {
    const encoder = new Encoder(parts.tokenizer, parts.reading, page);
    if (parts.nano) return new Scorer(page, new NanoGraph(parts.nano), encoder);
    // Loaded only where it is used: the page of a nano student has no WebAssembly.
    const { WasmGraph } = await import("./wasm_graph.mjs");
    const graph = await WasmGraph.open(parts, { threads, glue, hasNovelty: Boolean(page.novelty) });
    return new Scorer(page, graph, encoder);
  }

  constructor(page, graph, encoder) {
    this.page = page;
    this.graph = graph;
    this.encoder = encoder;
    this.redact = redactor(page.redaction);
    this.isBlank = blankTest(page.invisible);
    this.contextHash = contextHash(page.invisible);
    this.known = page.contexts?.closed ? new Set(page.contexts.hashes) : null;
  }

  /** Score one response: `inputs` holds a text for each of the task's inputs. */
  async score(inputs) {
    const read = this.readable(inputs);
    const encoded = this.encode(read);
    const isNew = this.known !== null && !this.known.has(this.contextHash(contextOf(read)));
    const { logits, novelty } = await this.run(encoded);
    return judge(probabilities(logits, this.page), encoded, this.page, isNew, novelty);
  }

  /** The task's inputs in its order, redacted where the task says so. */
  readable(inputs) {
    return Object.fromEntries(
      this.page.inputs.map((name) => {
        if (typeof inputs[name] !== "string") throw new Unscorable("fault_input", { input: name });
        if (/\p{Surrogate}/u.test(inputs[name])) throw new Unscorable("fault_surrogate", { input: name });
        return [name, this.redact(inputs[name])];
      }),
    );
  }

  encode(read) {
    return this.encoder.encode(contextInputs(read), read.response, this.isBlank(read.response));
  }

  /** The logits of a response, and its novelty; null for a model that does not measure it. */
  async run({ ids, typeIds }) {
    let found;
    try {
      found = await this.graph.run({ ids, typeIds });
    } catch {
      // The original message would contain token ids, which reveal the text.
      throw new Unscorable("fault_model");
    }
    const { logits, novelty } = found;
    const numbers = novelty === null ? logits : [...logits, novelty];
    if (!numbers.every(Number.isFinite)) throw new Unscorable("fault_numbers");
    return { logits, novelty };
  }

  /**
   * Score the golden responses; `onRow(done)` is called after each. Their tokens must be those of Python to the last one, their
   * probabilities within the tolerance.
   */
  async check(golden, onRow = () => {}) {
    if (golden.rows.length === 0) throw new Drift("drift_golden");
    let difference = 0;
    let noveltyDifference = 0;
    for (const [at, row] of golden.rows.entries()) {
      const encoded = this.encode(this.readable(row.inputs));
      if (encoded.ids.join() !== row.ids.join()) {
        throw new Drift("drift_tokens", { row: at + 1 });
      }
      const { logits, novelty } = await this.run(encoded);
      const found = probabilities(logits, this.page);
      const wanted = probabilities(row.logits, this.page);
      const isComparable = found.length === wanted.length && found.length === this.page.labels.length;
      // `Math.max` of a value that is not a number is not a number, which `isAtMost` refuses.
      difference = Math.max(difference, isComparable ? 0 : 1, ...found.map((share, place) => Math.abs(share - wanted[place])));
      if (novelty !== null) {
        noveltyDifference = Math.max(noveltyDifference, Math.abs(novelty - row.novelty) / Math.max(row.novelty, SMALL));
      }
      onRow(at + 1);
    }
    expectSmall("drift_probabilities", difference, golden.tolerance);
    if (this.page.novelty) expectSmall("drift_novelty", noveltyDifference, golden.noveltyTolerance);
    return difference;
  }
}

function expectSmall(key, difference, tolerance) {
  if (isAtMost(difference, tolerance)) return;
  throw new Drift(key, { difference: difference.toPrecision(3), tolerance: String(tolerance) });
}

/** The name and the text of each input before the response, in the order in which the model reads them. */
function contextInputs(read) {
  return CONTEXT.filter((name) => read[name] !== undefined).map((name) => [name, read[name]]);
}

/** They as one text; "" without them. */
function contextOf(read) {
  return contextInputs(read).map(([, text]) => text).join(" ");
}

/** The probabilities of a response's logits, as in `edgedistill_serve.task.label_decoding`. */
export function probabilities(logits, { kind, temperature }) {
  return kind === "multilabel" ? logits.map((logit) => sigmoid(logit / temperature)) : softmax(logits, temperature);
}

function sigmoid(value) {
  const small = Math.exp(-Math.abs(value));
  return (value >= 0 ? 1 : small) / (1 + small);
}

/** `exp(logits / temperature)`, divided by its sum. */
function softmax(logits, temperature) {
  const scaled = logits.map((logit) => logit / temperature);
  const largest = Math.max(...scaled);
  const weights = scaled.map((logit) => Math.exp(logit - largest));
  const sum = weights.reduce((one, other) => one + other);
  return weights.map((weight) => weight / sum);
}

/** Whether one number is at most another; false for anything that is not a finite number. */
function isAtMost(one, other) {
  return Number.isFinite(one) && Number.isFinite(other) && one <= other;
}

/** Whether responses that are too novel go to a person. */
function isLimited({ review }) {
  return review.max_novelty !== null && review.max_novelty !== undefined;
}

/** Determine the label or labels, and whether they need human review. */
export function judge(shares, encoded, page, isNewQuestion, novelty = null) {
  if (!shares.every(Number.isFinite)) throw new Unscorable("fault_probabilities");
  const { label, probability, least } = page.kind === "multilabel" ? several(shares, page) : one(shares, page);
  let reason = null;
  if (encoded.blank && page.review.blank) reason = "blank";
  else if (!isAtMost(encoded.unknownShare, page.review.max_unknown_share)) reason = "unreadable";
  else if (encoded.truncated && page.review.truncated) reason = "truncated";
  else if (isNewQuestion && page.review.new_question) reason = "new question";
  else if (isLimited(page) && !isAtMost(novelty, page.review.max_novelty)) reason = "unlike training";
  else if (page.review.min_letters > 0 && !isAtMost(page.review.min_letters, encoded.letterShare)) reason = "unlike training";
  else if (!isAtMost(least, probability)) reason = "below threshold";
  return {
    label,
    probability,
    probabilities: new Map(page.labels.map(({ name }, at) => [name, shares[at]])),
    decision: reason === null ? "accept" : "review",
    reason,
    truncated: encoded.truncated,
    tokens: encoded.tokens,
    unknown_share: encoded.unknownShare,
    context_tokens: encoded.contextTokens,
    context_tokens_lost: encoded.contextTokensLost,
    novelty,
  };
}

function one(shares, page) {
  const best = shares.indexOf(Math.max(...shares));
  const label = page.labels[best].name;
  return { label, probability: shares[best], least: page.review.thresholds.get(label) ?? 0 };
}

/** The labels that hold as one text, and the certainty of the least sure. */
function several(shares, page) {
  const names = page.labels.map(({ name }) => name);
  const held = names.filter((name, at) => shares[at] >= page.thresholds.get(name));
  const sure = names.map((name, at) => certainty(shares[at], page.thresholds.get(name)));
  return { label: held.join(";") || "none", probability: Math.min(...sure), least: page.review.least_certainty };
}

/** As `edgedistill_serve.task.label_decoding.certainty`, in the same order of operations. */
function certainty(share, threshold) {
  if (share >= threshold) return 0.5 + (0.5 * (share - threshold)) / (1 - threshold);
  return 0.5 + (0.5 * (threshold - share)) / threshold;
}
