// A nano student in plain JavaScript, without WebAssembly and without other modules.
// The arithmetic is that of its graph (`convert/nano_graph.py`, `novelty.py`), in double precision.

const KINDS = new Map([["F32", Float32Array], ["I8", Int8Array]]);
const HEADER_START = 8;

/** Read a safetensors file: a map from each tensor's name to its `shape` and `values`. */
export function readTensors(buffer) {
  const start = HEADER_START + Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, HEADER_START, start - HEADER_START)));
  return new Map(
    Object.entries(header).map(([name, { dtype, shape, data_offsets: [first, last] }]) => {
      // A copy, because the values of a typed array must be aligned.
      const values = new (KINDS.get(dtype))(buffer.slice(start + first, start + last));
      return [name, { shape, values }];
    }),
  );
}

export class NanoGraph {
  /** `file`: what `web/nano_file.py` writes. */
  constructor(file) {
    const tensors = readTensors(file);
    const values = (name) => tensors.get(name)?.values ?? null;
    const layer = (name) => ({ weight: values(`${name}.weight`), bias: values(`${name}.bias`) });
    this.table = values("nano.table.int8") ?? values("nano.table");
    this.steps = values("nano.table.steps");
    this.width = (tensors.get("nano.table.int8") ?? tensors.get("nano.table")).shape.at(-1);
    this.hidden = layer("nano.hidden");
    this.classifier = layer("nano.classifier");
    this.pair = tensors.get("nano.hidden.weight").shape.at(0) === 4 * this.width;
    [this.length] = values("length");
    [this.shortest] = values("shortest");
    this.novelty = tensors.has("novelty.mean")
      ? {
          mean: values("novelty.mean"),
          directions: values("novelty.directions"),
          along: values("novelty.along"),
          plain: values("novelty.plain").at(0),
        }
      : null;
  }

  /** The logits of a row, and its novelty; null for a model that does not measure it. */
  run({ ids, typeIds }) {
    const response = new Float64Array(this.width);
    const context = new Float64Array(this.width);
    let ofResponse = 0;
    for (let at = 0; at < ids.length; at += 1) {
      const token = ids[at];
      const isContext = this.pair && typeIds[at] !== 1;
      const sum = isContext ? context : response;
      const step = this.steps ? this.steps.at(token) : 1;
      const vector = this.table.subarray(token * this.width, (token + 1) * this.width);
      for (let place = 0; place < sum.length; place += 1) sum[place] += vector[place] * step;
      if (!isContext) ofResponse += 1;
    }
    const hidden = layer(this.features(context, response), this.hidden).map((value) => Math.max(value, 0));
    const logits = layer(hidden, this.classifier);
    const vector = this.novelty && this.vector(context, response, ids.length, ofResponse);
    return { logits: Array.from(logits), novelty: this.novelty && distance(vector, this.novelty) };
  }

  features(contextSum, responseSum) {
    const response = this.text(responseSum);
    if (!this.pair) return response;
    const context = this.text(contextSum);
    const product = context.map((value, place) => value * response[place]);
    const difference = context.map((value, place) => Math.abs(value - response[place]));
    return Float64Array.of(...context, ...response, ...product, ...difference);
  }

  /** The vector of a text: the direction of its tokens' sum. */
  text(sum) {
    const norm = Math.sqrt(sum.reduce((total, value) => total + value * value, 0));
    const factor = this.length / Math.max(norm, this.shortest);
    return sum.map((value) => value * factor);
  }

  /** What the novelty is measured of: the mean over all tokens and, with a context, half the mean over the response's. */
  vector(context, response, tokens, ofResponse) {
    const whole = response.map((value, place) => (value + context[place]) / Math.max(tokens, 1));
    if (!this.pair) return whole;
    return Float64Array.of(...whole, ...response.map((value) => (0.5 * value) / Math.max(ofResponse, 1)));
  }
}

/** `input · weight + bias`, with weights of shape (inputs, outputs). */
function layer(input, { weight, bias }) {
  return product(input, weight, bias.length).map((value, place) => value + bias[place]);
}

/** `input · weight`, with weights of shape (inputs, outputs). */
function product(input, weight, outputs) {
  const found = new Float64Array(outputs);
  for (let at = 0; at < input.length; at += 1) {
    const weights = weight.subarray(at * outputs, (at + 1) * outputs);
    for (let place = 0; place < outputs; place += 1) found[place] += input[at] * weights[place];
  }
  return found;
}

/** `‖plain · centred + (centred · directions) · along‖`. */
function distance(vector, { mean, directions, along, plain }) {
  const centred = vector.map((value, place) => value - mean[place]);
  const projected = product(centred, directions, directions.length / centred.length);
  const moved = product(projected, along, centred.length);
  return Math.sqrt(centred.reduce((total, value, place) => total + (plain * value + moved[place]) ** 2, 0));
}
