// Compiled by the tests and never run: what the type declarations allow and refuse.
import { Busy, Client, labelsOf, Retries, type Result, type Score, type ServedModel } from "edgedistill-client";
import "edgedistill-client/element";

const client = new Client("http://127.0.0.1:8000", {
  key: "eds_x",
  model: "praise",
  retries: { tries: 3, firstWait: 100 },
  timeout: 10_000,
});

export async function use(signal: AbortSignal): Promise<string[]> {
  const { model, score } = await client.score("You worked hard on this.", { signal });
  const decision: "accept" | "review" = score.decision;
  const results: Result[] = await client.scoreMany(["a", { response: "b", question: "why", id: 17 }]);
  const errors = results.flatMap((result) => (result.error === undefined ? labelsOf(result.score) : [result.error]));
  async function* responses() {
    yield "a";
    yield { response: "b" };
  }
  for await (const result of client.scoreStream(responses(), { signal })) {
    if (result.score) errors.push(result.score.label, result.version);
    else errors.push(result.error);
  }
  const { words } = await client.explain({ response: "a", reference_answer: "b" });
  const models: ServedModel[] = await client.models();
  const validated: string[] = models.flatMap(({ verdict }) => (verdict?.status === "inconclusive" ? [] : (verdict?.labels ?? [])));
  return [...validated, model, decision, ...errors, ...words.map(({ word }) => word), ...models.map(({ name }) => name)];
}

export function wait(error: unknown): number | null {
  return error instanceof Busy ? (error.status ?? new Retries({ tries: 2 }).wait(1)) : null;
}

export function element(): Score | undefined {
  const form = document.createElement("edgedistill-score");
  form.client = client;
  form.texts = { score: "Bewerten" };
  form.value = "x";
  form.addEventListener("edgedistill-score", ({ detail }) => detail.score.label);
  document.addEventListener("edgedistill-error", ({ detail }) => detail.status);
  return form.result?.score;
}

// @ts-expect-error: a response is a text or an object with a response
void client.score({ question: "why" });
// @ts-expect-error: one text is not a list, although it is iterable
void client.scoreMany("You worked hard on this.");
// @ts-expect-error: milliseconds are a number
new Client("http://127.0.0.1:8000", { timeout: "60s" });
// @ts-expect-error: there is no such text
document.createElement("edgedistill-score").texts = { submit: "Go" };
