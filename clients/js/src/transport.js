// One request with its retries, its time limit and its signal.
import { Busy, ClientError, Refused, ServerFailed, StrangeAnswer, Unreachable } from "./errors.js";

const RETRY_STATUSES = [429, 503];
const MAX_DETAIL = 300;

/** An answer that ended too early. It is retried. */
export class IncompleteAnswer extends Error {}

/** The retry policy; times in milliseconds. Scoring changes nothing on the server, so that retries are safe. */
export class Retries {
  constructor({ tries = 5, firstWait = 250, longestWait = 30_000, random = Math.random } = {}) {
    check("retries.tries", tries, Number.isInteger(tries) && tries >= 1 && tries <= 1000, "a whole number from 1 to 1000");
    for (const [name, wait] of Object.entries({ firstWait, longestWait })) {
      check(`retries.${name}`, wait, wait >= 0 && wait <= 86_400_000, "a number of milliseconds from 0 to 86400000");
    }
    Object.assign(this, { tries, firstWait, longestWait, random });
  }

  /**
   * The milliseconds to wait after `failed` attempts. Each wait is twice as long as the one before, shortened by up to
   * a half, so that many clients do not retry at the same time; it is never shorter than the server asks for.
   */
  wait(failed, retryAfter = 0) {
    const wait = Math.min(this.longestWait, this.firstWait * 2 ** Math.min(failed - 1, 30));
    return Math.max(wait * (1 - this.random() / 2), retryAfter);
  }
}

export function check(name, value, isValid, expected) {
  if (!isValid) throw new Refused(`${name}: ${String(value)} is not ${expected}.`);
}

/** The milliseconds of a header Retry-After: seconds, or a date, as a proxy may send it. */
export function parseRetryAfter(header, now = Date.now()) {
  const text = (header ?? "").trim();
  if (/^\d+(\.\d+)?$/.test(text)) return 1000 * Number(text);
  const date = Date.parse(text);
  return Number.isNaN(date) ? 0 : Math.max(0, date - now);
}

/**
 * Send a request until it is answered.
 *
 * `parse(text, headers)` reads the body of a successful answer. It throws a SyntaxError for one that is not of this kind
 * of server, and IncompleteAnswer for one that ended too early.
 */
export async function send(call, { url, key, fetch, retries, timeout, signal }, parse) {
  const where = `${url}${call.path}`;
  let problem;
  let failed = 0;
  while (failed < retries.tries) {
    signal?.throwIfAborted();
    const outcome = await attempt(call, { where, key, fetch, timeout, signal }, parse);
    if ("value" in outcome) return outcome.value;
    failed += 1;
    problem = outcome;
    const wait = retries.wait(failed, outcome.retryAfter);
    if (failed === retries.tries || wait > retries.longestWait) break;
    await sleep(wait, signal);
  }
  const often = failed === 1 ? "once" : `${failed} times`;
  if (problem.status) {
    const message = `${where}: the server had no capacity (${problem.status}), tried ${often}. Send fewer requests at a time, or try again later.`;
    throw new Busy(message, { status: problem.status });
  }
  const fix = "Check the address, that the server is running, and, in a browser, that --allow-origin lists this page's origin.";
  throw new Unreachable(`${where}: there was no answer (${problem.reason}), tried ${often}. ${fix}`, { cause: problem.cause });
}

/** One attempt: `{ value }`, or what failed and may be tried again. Other failures are thrown. */
async function attempt(call, { where, key, fetch, timeout, signal }, parse) {
  const clock = new Clock(timeout, signal);
  try {
    const answer = await fetch(where, {
      method: call.body === undefined ? "GET" : "POST",
      headers: headersOf(call, key),
      body: call.body,
      cache: "no-store",
      credentials: "omit",
      redirect: "manual",
      referrerPolicy: "no-referrer",
      signal: clock.signal,
    });
    clock.beat();
    if (RETRY_STATUSES.includes(answer.status)) {
      await discard(answer);
      return { status: answer.status, retryAfter: parseRetryAfter(answer.headers.get("Retry-After")) };
    }
    if (!answer.ok) throw await statusError(answer, where);
    return { value: parseAnswer(await readText(answer, clock), answer, parse, where) };
  } catch (error) {
    if (error instanceof ClientError) throw error;
    if (signal?.aborted) throw signal.reason;
    if (error instanceof IncompleteAnswer) return { reason: error.message };
    if (clock.hasEnded) return { reason: `nothing arrived in ${timeout} ms`, cause: error };
    if (error?.name === "TypeError" || isNetworkError(error)) return { reason: "no connection, or it broke", cause: error };
    throw error;
  } finally {
    clock.stop();
  }
}

/** The body of an answer; the time limit starts again with each part of it. */
async function readText(answer, clock) {
  const decoder = new TextDecoder();
  const parts = [];
  const reader = answer.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    clock.beat();
    parts.push(decoder.decode(part.value, { stream: true }));
  }
  parts.push(decoder.decode());
  return parts.join("");
}

function parseAnswer(text, answer, parse, where) {
  try {
    return parse(text, answer.headers);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    const fix = "Check the address, and that server and client have the same version.";
    const message = `${where}: the answer does not match the schema of this server's answers. ${fix}`;
    throw new StrangeAnswer(message, { status: answer.status, cause: error });
  }
}

/** Errors of sockets, which some versions of fetch pass on while a body is read. */
function isNetworkError(error) {
  return error?.name === "NetworkError" || typeof error?.code === "string";
}

function headersOf(call, key) {
  const headers = { Accept: call.accept ?? "application/json" };
  if (call.body !== undefined) headers["Content-Type"] = call.type ?? "application/json";
  if (key) headers.Authorization = `Bearer ${key}`;
  return headers;
}

async function discard(answer) {
  await answer.body?.cancel().catch(() => {});
}

async function statusError(answer, where) {
  const media = (answer.headers.get("Content-Type") ?? "").split(";")[0].trim().toLowerCase();
  const status = answer.type === "opaqueredirect" ? null : answer.status;
  if (media !== "application/problem+json") {
    await discard(answer);
    // The body of another server, such as a proxy, may have the response in it, and is not quoted.
    const what = status === null ? "is a redirect" : `has the status ${status}`;
    return new StrangeAnswer(`${where}: the answer ${what} and is not from this kind of server. Check the address, and any proxy in between.`, { status });
  }
  let problem = {};
  try {
    problem = JSON.parse(await answer.text()) ?? {};
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  const detail = String(problem.detail || problem.title || "the server gave no reason");
  const text = detail.split(/\s+/).join(" ").slice(0, MAX_DETAIL).replace(/[.]$/, "");
  const Kind = status >= 500 ? ServerFailed : Refused;
  return new Kind(`${where}: ${text} (${status}).`, { status });
}

/** Ends an attempt during which nothing arrives for some time, or whose caller aborts it. */
class Clock {
  #controller = new AbortController();
  #timeout;
  #timer;
  #outer;
  #forward;
  hasEnded = false;

  constructor(timeout, outer) {
    this.#timeout = timeout;
    this.#outer = outer;
    this.#forward = () => this.#controller.abort(outer.reason);
    if (outer?.aborted) this.#forward();
    outer?.addEventListener("abort", this.#forward);
    this.beat();
  }

  get signal() {
    return this.#controller.signal;
  }

  beat() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.hasEnded = true;
      this.#controller.abort();
    }, this.#timeout);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#outer?.removeEventListener("abort", this.#forward);
  }
}

function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const wake = () => {
      signal?.removeEventListener("abort", abort);
      resolve();
    };
    const timer = setTimeout(wake, milliseconds);
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    signal?.addEventListener("abort", abort, { once: true });
  });
}
