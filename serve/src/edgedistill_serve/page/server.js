// Talks with the server that this page came from, and with nothing else.

/** The server said no, or nothing. `status` is 0 where it could not be reached. */
export class Refusal extends Error {
  constructor(status, detail, retryAfter) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Send one request; `key` is the API key, "" where there is none. */
export async function ask(path, { key = "", body, signal } = {}) {
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
    throw new Refusal(0, "The server cannot be reached. Is it running?");
  }
  const content = await answer.json().catch(() => ({}));
  if (answer.ok) return content;
  throw new Refusal(answer.status, content.detail ?? `The server answered ${answer.status}.`, retryAfter(answer));
}

function retryAfter(answer) {
  const seconds = Number(answer.headers.get("Retry-After"));
  return seconds > 0 ? seconds : 1;
}
