// Requests to the server of this page, and to no other.
import { parseJson } from "./json.js";

/** A request failed. `status` is 0 if the server could not be reached. */
export class RequestError extends Error {
  constructor(status, detail, retryAfter) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Send one request; `key` is the API key, or "". */
export async function request(path, { key = "", body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers.Authorization = `Bearer ${key}`;
  let answer;
  try {
    answer = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestError(0, "The server cannot be reached. Is it running?");
  }
  const content = parsed(await answer.text().catch(() => ""));
  if (answer.ok) return content;
  throw new RequestError(answer.status, content.detail ?? `The server answered with the status ${answer.status}.`, retrySeconds(answer));
}

/** A proxy may answer with something else than JSON. */
function parsed(text) {
  try {
    return parseJson(text);
  } catch {
    return {};
  }
}

function retrySeconds(answer) {
  const seconds = Number(answer.headers.get("Retry-After"));
  return seconds > 0 ? seconds : 1;
}
