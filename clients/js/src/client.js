// A client of one edgedistill-serve server, for browsers and Node. It has no dependencies.
import { Refused } from "./errors.js";
import { check, IncompleteAnswer, Retries, send } from "./transport.js";

export { Busy, ClientError, Refused, ServerFailed, StrangeAnswer, Unreachable } from "./errors.js";
export { Retries } from "./transport.js";

/** Largest number of bytes and rows of one batch of a stream, as in the Python client: a batch that fits into the buffers
 * of the sockets is sent completely in any case, so that client and server never wait for each other. */
const BULK_BYTES = 64 * 1024;
const BULK_ROWS = 500;
/** Upper bound for the bytes of a body in addition to its responses and the name of its model. */
const OVERHEAD_BYTES = 256;
const PAYLOAD_TOO_LARGE = 413;
const LINES = "application/x-ndjson";
const NO_LABEL = "none";
const SEPARATOR = ";";
const utf8 = new TextEncoder();

/** The labels of a score as a list: of a multilabel task, the assigned ones, possibly none. */
export function labelsOf({ label, probabilities }) {
  if (Object.hasOwn(probabilities, label)) return [label];
  return label === NO_LABEL ? [] : label.split(SEPARATOR);
}

/** A client of one server. Responses are sent to `url` only, and redirects are not followed. */
export class Client {
  #settings;
  #limits = null;

  constructor(url, { model, key, retries = {}, timeout = 60_000, fetch } = {}) {
    check("timeout", timeout, timeout > 0 && timeout <= 604_800_000, "a number of milliseconds from 1 to 604800000");
    if (key !== undefined && !/^[\x21-\x7e]+$/.test(key)) {
      throw new Refused("The API key contains spaces or characters that are not ASCII. Copy the key again.");
    }
    this.url = parseAddress(url);
    this.model = model;
    this.#settings = {
      url: this.url,
      key,
      timeout,
      retries: retries instanceof Retries ? retries : new Retries(retries),
      // Called without this object, as browsers demand.
      fetch: fetch ?? ((...given) => globalThis.fetch(...given)),
    };
  }

  /** List the models of the server. */
  async models({ signal } = {}) {
    return (await this.#list(signal)).models;
  }

  /** Score one response. */
  async score(response, { signal } = {}) {
    const body = encodeSingle(response, this.model);
    return this.#send({ path: "/v1/score", body }, signal, (text) => scored(object(text)));
  }

  /** Score one response, and explain the score by the effect of each word. */
  async explain(response, { signal } = {}) {
    const body = encodeSingle(response, this.model);
    return this.#send({ path: "/v1/explain", body }, signal, (text) => {
      const { words, ...answer } = object(text);
      return { ...scored(answer), words: list(words) };
    });
  }

  /** Score a list, in as many requests as the limits of the server require. */
  async scoreMany(responses, { signal } = {}) {
    const items = [];
    for (const response of several(responses)) items.push(encode(response, items.length + 1));
    this.#limits ??= (await this.#list(signal)).limits;
    const results = [];
    const size = this.#limits.body_bytes - OVERHEAD_BYTES - 6 * (this.model ?? "").length;
    for (const batch of batches(items, { rows: this.#limits.items, size })) {
      for (const result of await this.#scoreBatch(batch, results.length + 1, signal)) results.push(result);
    }
    return results;
  }

  /** Score any number of responses, in constant memory; yields the results in order. */
  async *scoreStream(responses, { signal } = {}) {
    const buffer = new BatchBuffer({ rows: BULK_ROWS, size: BULK_BYTES });
    let position = 0;
    for await (const response of several(responses)) {
      position += 1;
      const batch = buffer.add(encode(response, position));
      if (batch) yield* await this.#scoreLines(batch, signal);
    }
    const batch = buffer.flush();
    if (batch) yield* await this.#scoreLines(batch, signal);
  }

  #send(call, signal, parse) {
    return send(call, { ...this.#settings, signal }, parse);
  }

  #list(signal) {
    return this.#send({ path: "/v1/models" }, signal, (text) => {
      const { models, limits = {} } = object(text);
      const { items = 1000, body_bytes = 4 * 1024 * 1024 } = limits;
      return { models: list(models), limits: { items, body_bytes } };
    });
  }

  async #scoreBatch(batch, first, signal) {
    const named = this.model === undefined ? "" : `,"model":${JSON.stringify(this.model)}`;
    const body = `{"responses":[${batch.join(",")}]${named}}`;
    try {
      return await this.#send({ path: "/v1/score", body }, signal, (text) => {
        const { model, version, scores } = object(text);
        return counted(list(scores).map((item) => result(model, version, item)), batch.length);
      });
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === PAYLOAD_TOO_LARGE && batch.length === 1) {
        return [{ model: null, version: null, error: error.message }];
      }
      const rows = batch.length === 1 ? `response ${first}` : `responses ${first} to ${first + batch.length - 1}`;
      throw new Refused(`${rows}: ${error.message}`, { status: error.status, cause: error });
    }
  }

  #scoreLines(batch, signal) {
    const path = "/v1/score/bulk" + (this.model === undefined ? "" : `?model=${encodeURIComponent(this.model)}`);
    const call = { path, body: `${batch.join("\n")}\n`, type: LINES, accept: LINES };
    return this.#send(call, signal, (text, headers) => {
      const lines = text.split("\n");
      if (lines.pop() !== "" || lines.length < batch.length) throw new IncompleteAnswer("the answer was incomplete");
      const items = lines.map(object);
      if (items.some(({ ended }) => ended)) throw new IncompleteAnswer("the answer was incomplete");
      const identity = headers.get("X-Model") ?? "";
      const at = identity.lastIndexOf("@");
      const [model, version] = at < 0 ? [null, null] : [identity.slice(0, at), identity.slice(at + 1)];
      return counted(items.map((item) => result(model, version, item)), batch.length);
    });
  }
}

function parseAddress(url) {
  let address;
  try {
    address = new URL(url, globalThis.location?.href);
  } catch {
    address = null;
  }
  const isValid = address !== null && /^https?:$/.test(address.protocol) && !address.username && !address.password;
  check("url", String(url).slice(0, 200), isValid, "the address of a server, such as http://127.0.0.1:8000");
  return address.origin + address.pathname.replace(/\/+$/, "");
}

/** Responses are an iterable, and neither one text nor one object, which would be iterated by characters or not at all. */
function several(responses) {
  const isSeveral =
    typeof responses === "object" && responses !== null && !(responses instanceof String) &&
    (Symbol.iterator in responses || Symbol.asyncIterator in responses);
  if (isSeveral) return responses;
  throw new Refused("responses are not a list or another iterable. For one response, call score.");
}

/** Whether a value can hold texts by name: lists, maps, sets, bytes and String objects cannot. */
function isInputs(value) {
  return typeof value === "object" && value !== null && !(Symbol.iterator in value);
}

function encode(response, position) {
  const isValid = typeof response === "string" || isInputs(response);
  let text;
  try {
    text = isValid ? JSON.stringify(response) : undefined;
  } catch {
    text = undefined;
  }
  if (text !== undefined) return text;
  throw new Refused(`response ${position}: the response is neither a string nor an object of strings. Send texts.`);
}

function encodeSingle(response, model) {
  const inputs = typeof response === "string" ? { response } : response;
  return encode(isInputs(inputs) && model !== undefined ? { ...inputs, model } : inputs, 1);
}

/** Collects encoded responses into batches of at most some rows and bytes; a longer response is a batch of its own. */
class BatchBuffer {
  #items = [];
  #bytes = 0;

  constructor({ rows, size }) {
    this.rows = Math.max(1, rows);
    this.size = size;
  }

  /** Add a response, and return the batch before it if the two would be too large. */
  add(item) {
    const bytes = utf8.encode(item).length + 1;
    const isFull = this.#items.length > 0 && (this.#items.length >= this.rows || this.#bytes + bytes > this.size);
    const batch = isFull ? this.flush() : null;
    this.#items.push(item);
    this.#bytes += bytes;
    return batch;
  }

  /** Return what was collected, or null, and start a new batch. */
  flush() {
    const batch = this.#items;
    this.#items = [];
    this.#bytes = 0;
    return batch.length ? batch : null;
  }
}

function* batches(items, limits) {
  const buffer = new BatchBuffer(limits);
  for (const item of items) {
    const batch = buffer.add(item);
    if (batch) yield batch;
  }
  const batch = buffer.flush();
  if (batch) yield batch;
}

/** JSON text as an object; a SyntaxError for anything else. */
function object(text) {
  const value = JSON.parse(text);
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new SyntaxError("not an object");
}

function list(value) {
  if (Array.isArray(value)) return value;
  throw new SyntaxError("not a list");
}

function counted(results, count) {
  if (results.length === count) return results;
  throw new SyntaxError("another number of results than of responses");
}

function scored({ model, version, ...score }) {
  const isScore = typeof score.label === "string" && typeof score.probability === "number" && typeof score.decision === "string";
  if (isScore && typeof score.probabilities === "object" && score.probabilities !== null) return { model, version, score };
  throw new SyntaxError("not a score");
}

function result(model, version, item) {
  return typeof item?.error === "string" ? { model, version, error: item.error } : scored({ ...item, model, version });
}
