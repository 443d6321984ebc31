// Shows what leaving each word out did to the label's probability.
import { labelsOf, percent, points } from "./wording.js";

const ROWS = 8;
/** Changes below half a percentage point are not shown: they are what any word does. */
const LEAST = 0.005;
const STEPS = [[0.15, "3"], [0.05, "2"], [LEAST, "1"]];

/** Fill the panel from an answer of /v1/explain; `text` is the response that was explained, `label` the one asked about. */
export function showWords(text, explained, label, panel) {
  const words = explained.words.map((word) => ({ ...word, change: word.changes[label] }));
  const moving = words.filter((word) => Math.abs(word.change) >= LEAST);
  moving.sort((one, other) => Math.abs(other.change) - Math.abs(one.change));
  panel.text.replaceChildren(...marked(text, words));
  panel.rows.replaceChildren(...moving.slice(0, ROWS).map((word) => row(word, label, explained)));
  panel.table.hidden = panel.legend.hidden = moving.length === 0;
  panel.summary.textContent = summary(moving, words.length, label);
}

function summary(moving, count, label) {
  if (count === 0) return "There is no word to leave out.";
  if (moving.length === 0) return `No word alone moves “${label}” by half a percentage point.`;
  const [first] = moving;
  const way = first.change > 0 ? "for" : "against";
  return `“${first.word}” speaks most clearly ${way} “${label}”: ${points(first.change)} percentage points.`;
}

/** Offsets count code points, as the server does. */
function marked(text, words) {
  const letters = Array.from(text);
  const parts = [];
  let end = 0;
  for (const word of words) {
    parts.push(letters.slice(end, word.start).join(""), span(word));
    end = word.end;
  }
  return [...parts, letters.slice(end).join("")];
}

function span(word) {
  const shown = document.createElement("span");
  const step = STEPS.find(([least]) => Math.abs(word.change) >= least);
  shown.textContent = word.word;
  shown.className = step ? `word ${word.change > 0 ? "for" : "against"}${step[1]}` : "word";
  return shown;
}

function row(word, label, explained) {
  const line = document.createElement("tr");
  const name = document.createElement("th");
  name.scope = "row";
  name.textContent = word.word;
  const without = document.createElement("td");
  without.textContent = percent(explained.probabilities[label] - word.change);
  if (word.label !== explained.label) {
    const other = document.createElement("small");
    other.textContent = wouldBe(labelsOf({ ...explained, label: word.label }));
    without.append(other);
  }
  const change = document.createElement("td");
  change.textContent = points(-word.change);
  line.append(name, without, change);
  return line;
}

function wouldBe(labels) {
  if (labels.length === 0) return "no label would hold";
  return labels.length === 1 ? `the label would be ${labels[0]}` : `the labels would be ${labels.join(", ")}`;
}
