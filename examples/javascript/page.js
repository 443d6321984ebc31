// The web component scores one answer; the client scores a class. Both ask an edgedistill-serve server.
import { Client, Refused, Unreachable } from "../../clients/js/src/client.js";
import "../../clients/js/src/element.js";

/** The questions of examples/rubric, with the reference answers that the model compares with. */
export const QUESTIONS = [
  {
    question: "Why does ice float on water?",
    reference_answer:
      "In ice the molecules are further apart than in liquid water. Therefore ice is less dense, and the water that it " +
      "displaces pushes up with a force equal to its weight.",
  },
  {
    question: "Why do we see the Moon change its shape over a month?",
    reference_answer:
      "The Sun lights half of the Moon. While the Moon orbits the Earth in about a month, we see different parts of this half.",
  },
];
const connection = document.querySelector("#connection").elements;
const element = document.querySelector("edgedistill-score");
const form = document.querySelector("#class");
const message = document.querySelector("#message");
const table = document.querySelector("table");

connection.question.append(...QUESTIONS.map(({ question }, place) => new Option(question, place)));
document.querySelector("#connection").addEventListener("change", connect);
element.addEventListener("edgedistill-error", ({ detail }) => (message.textContent = explain(detail)));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  scoreClass().catch((error) => (message.textContent = explain(error)));
});
connect();

/** Give the component the server, the key and the question of the form. The key stays in this page, and is stored nowhere. */
function connect() {
  message.textContent = "";
  table.hidden = true;
  const { question, reference_answer } = QUESTIONS[connection.question.value];
  element.setAttribute("question", question);
  element.setAttribute("reference-answer", reference_answer);
  try {
    element.client = newClient();
  } catch (error) {
    message.textContent = explain(error);
  }
}

function newClient() {
  return new Client(connection.server.value, { key: connection.key.value || undefined });
}

async function scoreClass() {
  const answers = form.elements.answers.value.split("\n").filter((line) => line.trim());
  const context = QUESTIONS[connection.question.value];
  message.textContent = "Scoring…";
  table.hidden = true;
  const results = await newClient().scoreMany(answers.map((response) => ({ ...context, response })));
  table.tBodies[0].replaceChildren(...results.map(({ score, error }, place) => rowOf(answers[place], score, error)));
  table.hidden = false;
  const review = results.filter(({ score }) => score === undefined || decision(score) !== "accepted").length;
  message.textContent = `${results.length} answers, ${review} for a person`;
}

/** A label that test rows do not support is never shown as accepted. */
function decision({ decision, reason, verdict }) {
  if (decision !== "accept") return `review: ${reason}`;
  return verdict === "validated" ? "accepted" : "not validated";
}

function rowOf(answer, score, error) {
  const row = document.createElement("tr");
  const cells = score ? [score.label, `${(100 * score.probability).toFixed(1)}%`, decision(score)] : ["", "", error];
  for (const text of [answer, ...cells]) row.insertCell().textContent = text;
  return row;
}

function explain(error) {
  const place = connection.server.value;
  if (error instanceof Unreachable) {
    return `No answer from ${place}. Is the server running, and was it started with --allow-origin ${location.origin}?`;
  }
  if (error instanceof Refused && error.status === 401) return "The server asks for a key: `edgedistill-serve key new page` makes one.";
  return error.message;
}
