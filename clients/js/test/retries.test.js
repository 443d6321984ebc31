// The client against servers that are busy, slow, broken or of another kind.
import assert from "node:assert/strict";
import http from "node:http";
import test from "node:test";
import { Busy, Client, Refused, Retries, ServerFailed, StrangeAnswer, Unreachable } from "edgedistill-client";
import { parseRetryAfter } from "../src/transport.js";

const SCORE = { label: "process", probability: 0.9, probabilities: { process: 0.9, person: 0.1 }, decision: "accept", reason: null };
const ANSWER = JSON.stringify({ model: "praise", version: "1", ...SCORE });
const FAST = { firstWait: 1, longestWait: 1000 };
const problem = (status, detail, headers = {}) => (answer) => {
  answer.writeHead(status, { "Content-Type": "application/problem+json", ...headers });
  answer.end(JSON.stringify({ title: "x", status, detail, request_id: "1" }));
};
const fine = (answer) => answer.writeHead(200, { "Content-Type": "application/json" }).end(ANSWER);

/** A server that answers the requests with these functions in turn, the last one again and again. */
async function serve(t, ...steps) {
  const seen = [];
  const server = http.createServer((request, answer) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      seen.push({ url: request.url, headers: request.headers, body: Buffer.concat(parts).toString(), at: performance.now() });
      steps[Math.min(seen.length, steps.length) - 1](answer, request, seen.at(-1));
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, seen };
}

test("429 and 503 are tried again, and the answer is returned", async (t) => {
  const { url, seen } = await serve(t, problem(429, "full"), problem(503, "draining"), fine);
  const { model, score } = await new Client(url, { retries: FAST }).score("hard work");
  assert.equal(model, "praise");
  assert.deepEqual(score, SCORE);
  assert.equal(seen.length, 3);
  assert.equal(new Set(seen.map(({ body }) => body)).size, 1);
});

test("a wait is never shorter than Retry-After, in seconds or as a date", async (t) => {
  const { url, seen } = await serve(t, problem(429, "full", { "Retry-After": "0.25" }), fine);
  await new Client(url, { retries: FAST }).score("x");
  assert.ok(seen[1].at - seen[0].at >= 240);
  assert.equal(parseRetryAfter("2"), 2000);
  assert.equal(parseRetryAfter("Wed, 21 Oct 2026 07:28:02 GMT", Date.parse("Wed, 21 Oct 2026 07:28:00 GMT")), 2000);
  for (const text of ["", null, "soon", "-3", "Wed, 21 Oct 1999 07:28:00 GMT"]) assert.equal(parseRetryAfter(text), 0);
});

test("waits double, are shortened by up to a half at random, and have a limit", () => {
  const waits = (random) => [1, 2, 3, 10].map((failed) => new Retries({ random: () => random }).wait(failed));
  assert.deepEqual(waits(0), [250, 500, 1000, 30_000]);
  assert.deepEqual(waits(0.5), [187.5, 375, 750, 22_500]);
  assert.equal(new Retries({ random: () => 0.99 }).wait(1, 4000), 4000);
});

test("a server that stays busy is Busy with its status after all tries, or at once if it asks for too long a wait", async (t) => {
  const full = await serve(t, problem(429, "full"));
  await assert.rejects(new Client(full.url, { retries: { ...FAST, tries: 3 } }).score("x"), (error) => {
    assert.ok(error instanceof Busy);
    assert.equal(error.name, "Busy");
    assert.equal(error.status, 429);
    assert.match(error.message, /no capacity \(429\), tried 3 times/);
    return true;
  });
  assert.equal(full.seen.length, 3);
  const patient = await serve(t, problem(503, "later", { "Retry-After": "3600" }));
  await assert.rejects(new Client(patient.url, { retries: FAST }).score("x"), { name: "Busy", message: /tried once/ });
  assert.equal(patient.seen.length, 1);
});

test("nothing listening is Unreachable and says --allow-origin", async () => {
  const client = new Client("http://127.0.0.1:9", { retries: { ...FAST, tries: 2 } });
  await assert.rejects(client.score("x"), (error) => {
    assert.ok(error instanceof Unreachable);
    assert.equal(error.status, null);
    assert.match(error.message, /no answer .* tried 2 times.*--allow-origin/);
    return true;
  });
});

test("a connection that breaks within an answer is tried again", async (t) => {
  const broken = (answer, request) => {
    answer.writeHead(200, { "Content-Type": "application/json", "Content-Length": "1000" });
    answer.write(ANSWER.slice(0, 20), () => request.socket.destroy());
  };
  const { url, seen } = await serve(t, broken, fine);
  assert.equal((await new Client(url, { retries: FAST }).score("x")).score.label, "process");
  assert.equal(seen.length, 2);
});

test("a server that sends nothing is left after the timeout, also within an answer", async (t) => {
  const silent = () => {};
  const stalled = (answer) => answer.writeHead(200, { "Content-Type": "application/json" }).write("{");
  for (const step of [silent, stalled]) {
    const { url } = await serve(t, step);
    const client = new Client(url, { timeout: 50, retries: { ...FAST, tries: 2 } });
    await assert.rejects(client.score("x"), { name: "Unreachable", message: /nothing arrived in 50 ms.*tried 2 times/ });
  }
});

test("an answer that keeps coming is not too slow", async (t) => {
  const slow = async (answer) => {
    answer.writeHead(200, { "Content-Type": "application/json" });
    for (const letter of ANSWER.match(/.{1,3}/g)) {
      answer.write(letter);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    answer.end();
  };
  const { url, seen } = await serve(t, slow);
  assert.equal((await new Client(url, { timeout: 1000 }).score("x")).model, "praise");
  assert.equal(seen.length, 1);
});

test("a signal ends a request, a wait and a stream with its reason", async (t) => {
  const reason = new Error("left the page");
  const after = (milliseconds) => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), milliseconds);
    return controller.signal;
  };
  const is = (error) => error === reason;
  const silent = await serve(t, () => {});
  await assert.rejects(new Client(silent.url).score("x", { signal: after(30) }), is);
  const busy = await serve(t, problem(429, "full", { "Retry-After": "20" }));
  await assert.rejects(new Client(busy.url).score("x", { signal: after(30) }), is);
  assert.equal(busy.seen.length, 1);
  await assert.rejects(async () => {
    for await (const _ of new Client(silent.url).scoreStream(["x"], { signal: after(30) }));
  }, is);
  await assert.rejects(new Client(silent.url).score("x", { signal: AbortSignal.abort(reason) }), is);
  assert.equal(silent.seen.length, 2);
});

test("a refusal is not tried again and quotes the detail of the server", async (t) => {
  for (const [status, name, Kind] of [[422, "Refused", Refused], [401, "Refused", Refused], [500, "ServerFailed", ServerFailed]]) {
    const { url, seen } = await serve(t, problem(status, "the input 'question'\n is missing."));
    await assert.rejects(new Client(url).score("x"), (error) => {
      assert.ok(error instanceof Kind);
      assert.equal(error.name, name);
      assert.equal(error.status, status);
      assert.ok(error.message.endsWith(`/v1/score: the input 'question' is missing (${status}).`), error.message);
      return true;
    });
    assert.equal(seen.length, 1);
  }
});

test("an answer of another kind of server is a StrangeAnswer that does not quote it", async (t) => {
  const html = (status) => (answer) => answer.writeHead(status, { "Content-Type": "text/html" }).end("<p>hard work</p>");
  const json = (content) => (answer) => answer.writeHead(200, { "Content-Type": "application/json" }).end(content);
  const away = (answer) => answer.writeHead(302, { Location: "http://127.0.0.1:9/" }).end();
  for (const step of [html(200), html(404), html(502), json("[]"), json('{"label": 1}'), json('"x"'), away]) {
    const { url, seen } = await serve(t, step);
    await assert.rejects(new Client(url).score("x"), (error) => {
      assert.ok(error instanceof StrangeAnswer, error.stack);
      assert.ok(!error.message.includes("hard work"));
      return true;
    });
    assert.equal(seen.length, 1);
  }
});

test("a stream that was cut off is sent again from the batch that was", async (t) => {
  const line = JSON.stringify(SCORE);
  const lines = (count, last = "") => (answer) => {
    answer.writeHead(200, { "Content-Type": "application/x-ndjson", "X-Model": "praise@1" });
    answer.end(`${line}\n`.repeat(count) + last);
  };
  const ended = `${JSON.stringify({ error: "the server is draining", ended: true })}\n`;
  const { url, seen } = await serve(t, lines(500), lines(3, ended), lines(1), lines(4, line.slice(0, 9)), lines(200));
  const results = [];
  for await (const each of new Client(url, { retries: FAST }).scoreStream(Array(700).fill("x"))) results.push(each);
  assert.equal(results.length, 700);
  assert.deepEqual(results[699], { model: "praise", version: "1", score: SCORE });
  assert.deepEqual(seen.map(({ body }) => body.split("\n").length - 1), [500, 200, 200, 200, 200]);
});

test("more lines than responses are a StrangeAnswer", async (t) => {
  const { url } = await serve(t, (answer) => {
    answer.writeHead(200, { "X-Model": "praise@1" }).end(`${JSON.stringify(SCORE)}\n`.repeat(2));
  });
  await assert.rejects(new Client(url).scoreStream(["x"]).next(), { name: "StrangeAnswer" });
});

test("a list is split by the limits of the server, and one that is too long alone has an error", async (t) => {
  const models = (answer) => answer.end(JSON.stringify({ models: [], limits: { items: 2, body_bytes: 400 } }));
  const scores = (answer, _, { body }) => {
    const { responses } = JSON.parse(body);
    if (body.length > 400) return problem(413, "the body is too long")(answer);
    answer.end(JSON.stringify({ model: "praise", version: "1", scores: responses.map(() => SCORE) }));
  };
  const { url, seen } = await serve(t, models, scores);
  const results = await new Client(url, { retries: FAST }).scoreMany(["a", "b", "c", "x".repeat(500), "d"]);
  assert.equal(seen.length, 5);
  assert.deepEqual(results.map(({ error }) => error !== undefined), [false, false, false, true, false]);
  assert.match(results[3].error, /too long/);
});

test("the key is sent in its header, and nothing else about the page", async (t) => {
  const { url, seen } = await serve(t, fine);
  await new Client(`${url}/edge/`, { key: "eds_x", model: "praise" }).score({ response: "x", question: "why" });
  assert.equal(seen[0].url, "/edge/v1/score");
  assert.equal(seen[0].headers.authorization, "Bearer eds_x");
  assert.equal(seen[0].headers.cookie, undefined);
  assert.deepEqual(JSON.parse(seen[0].body), { response: "x", question: "why", model: "praise" });
});

test("arguments that cannot be used are Refused before a request", async () => {
  for (const url of ["", "127.0.0.1:8000", "ftp://x", "http://user:secret@x", null]) {
    assert.throws(() => new Client(url), (error) => error instanceof Refused && /not the address of a server/.test(error.message), String(url));
  }
  for (const options of [{ key: "a b" }, { key: "ü" }, { timeout: 0 }, { timeout: NaN }, { retries: { tries: 0 } }, { retries: { firstWait: -1 } }, { retries: { longestWait: NaN } }]) {
    assert.throws(() => new Client("http://127.0.0.1:9", options), { name: "Refused" }, JSON.stringify(options));
  }
  const client = new Client("http://127.0.0.1:9");
  for (const response of [null, undefined, 5, ["x"], { a: 1n }, new Map([["response", "x"]]), new Set(["x"]), new Uint8Array(3), new String("x")]) {
    await assert.rejects(client.score(response), { name: "Refused", message: /response 1: .* neither a string nor an object/ });
    await assert.rejects(client.scoreMany([response]), { name: "Refused" });
  }
  for (const responses of ["a text", new String("a text"), { response: "x" }, null, 5]) {
    await assert.rejects(client.scoreMany(responses), { name: "Refused", message: /For one response, call score/ });
    await assert.rejects(client.scoreStream(responses).next(), { name: "Refused" });
  }
});
