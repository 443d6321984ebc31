// The client against a real server, whose address is in EDGEDISTILL_URL and key in EDGEDISTILL_KEY.
import assert from "node:assert/strict";
import test from "node:test";
import { Client, labelsOf, Refused } from "edgedistill-client";

const url = process.env.EDGEDISTILL_URL;
const key = process.env.EDGEDISTILL_KEY;
const there = { skip: url ? false : "EDGEDISTILL_URL is not set" };
const newClient = (options = {}) => new Client(url, { key, model: "praise", ...options });

test("models are listed with their inputs and labels", there, async () => {
  const models = await newClient().models();
  assert.deepEqual(models.map(({ name }) => name), ["praise", "answers", "moves"]);
  assert.deepEqual(models[1].inputs, ["question", "reference_answer", "response"]);
  assert.deepEqual(models[0].labels, ["process", "outcome", "person"]);
});

test("a response, a list and a stream have the same scores", there, async () => {
  const client = newClient();
  const texts = ["you worked hard", "so smart", "", "why\nbecause", "\u2028 “é” 🙂"];
  const many = await client.scoreMany(texts);
  for (const [index, text] of texts.entries()) assert.deepEqual(await client.score(text), many[index]);
  const streamed = [];
  for await (const result of client.scoreStream(texts)) streamed.push(result);
  assert.deepEqual(streamed, many);
  assert.equal(many[2].score.reason, "blank");
  assert.deepEqual(labelsOf(many[0].score), [many[0].score.label]);
});

test("an explanation has the effect of each word", there, async () => {
  const { score, words } = await newClient().explain("you worked hard");
  assert.deepEqual(words.map(({ word }) => word), ["you", "worked", "hard"]);
  assert.deepEqual(Object.keys(words[0].changes), Object.keys(score.probabilities));
});

test("responses with a question and multilabel scores", there, async () => {
  const row = { question: "why", reference_answer: "because", response: "the answer is 42" };
  assert.equal((await newClient({ model: "answers" }).score(row)).model, "answers");
  const results = await newClient({ model: "moves" }).scoreMany(["great job", "you are so smart", "why because why"]);
  for (const { score } of results) {
    assert.equal(labelsOf(score).join(";") || "none", score.label);
  }
  assert.ok(new Set(results.map(({ score }) => labelsOf(score).length)).size > 1);
});

test("a response that the model fails on is an error of its own", there, async () => {
  const results = await newClient().scoreMany(["great job", "poisonous", "why"]);
  assert.deepEqual(results.map(({ error }) => error === undefined), [true, false, true]);
  const [one, bad] = [[], []];
  for await (const result of newClient().scoreStream(["great job", "poisonous", "\ud800", { question: "x" }])) {
    (result.error === undefined ? one : bad).push(result);
  }
  assert.deepEqual([one.length, bad.length], [1, 3]);
  assert.equal(bad[0].model, "praise");
});

test("a stream is read as it is scored, never more than a batch ahead", there, async () => {
  let made = 0;
  let taken = 0;
  let ahead = 0;
  async function* responses() {
    for (; made < 1500; made++) {
      ahead = Math.max(ahead, made - taken);
      yield `you worked hard on this ${made % 700}`;
    }
  }
  for await (const { score } of newClient().scoreStream(responses())) {
    assert.ok(score.probability > 0);
    taken++;
  }
  assert.equal(taken, 1500);
  assert.ok(ahead <= 501, String(ahead));
});

test("leaving a stream early stops reading", there, async () => {
  let made = 0;
  function* responses() {
    for (;;) yield `great job ${made++}`;
  }
  for await (const _ of newClient().scoreStream(responses())) break;
  assert.ok(made <= 501);
});

test("a missing key, an unknown model and a missing input are Refused with the server's text", there, async () => {
  const refused = (match) => (error) => error instanceof Refused && match.test(error.message);
  await assert.rejects(newClient({ key: undefined }).score("x"), refused(/requires an API key.*\(401\)/));
  await assert.rejects(newClient({ model: "other" }).score("x"), refused(/no model of this name is served.*\(404\)/));
  await assert.rejects(newClient({ model: "answers" }).score("x"), refused(/'question' is missing.*\(422\)/));
  await assert.rejects(newClient({ model: "answers" }).scoreMany(["x"]), refused(/response 1: .*\(422\)/));
});
