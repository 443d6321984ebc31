// Shows the effect of each word on the probability of a label.
import { labelsOf, percent, points } from "./wording.js";

const ROWS = 8;
/** Smaller changes are not shown: most words cause changes of this size. */
const MIN_CHANGE = 0.005;
const STEPS = [[0.15, "3"], [0.05, "2"], [MIN_CHANGE, "1"]];

/** Fill the panel from an answer of /v1/explain for the response `text` and the selected `label`. */
export function showWords(text, explained, label, panel) {
  const words = explained.words.map((word) => ({ ...word, change: word.changes.get(label) }));
  const effective = words.filter((word) => Math.abs(word.change) >= MIN_CHANGE);
  effective.sort((one, other) => Math.abs(other.change) - Math.abs(one.change));
  panel.text.replaceChildren(...marked(text, words));
  panel.rows.replaceChildren(...effective.slice(0, ROWS).map((word) => row(word, label, explained)));
  panel.table.hidden = panel.legend.hidden = effective.length === 0;
  panel.summary.textContent = summary(effective, words.length, label);
}

function summary(effective, count, label) {
  if (count === 0) return "The response has no words.";
  if (effective.length === 0) return `No single word changes the probability of “${label}” by half a percentage point.`;
  const [first] = effective;
  const direction = first.change > 0 ? "for" : "against";
  return `“${first.word}” is the strongest word ${direction} “${label}”: ${points(first.change)} percentage points.`;
}

/** Offsets count code points, as on the server. */
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
  without.textContent = percent(explained.probabilities.get(label) - word.change);
  if (word.label !== explained.label) {
    const other = document.createElement("small");
    other.textContent = newLabelText(labelsOf({ ...explained, label: word.label }));
    without.append(other);
  }
  const change = document.createElement("td");
  change.textContent = points(-word.change);
  line.append(name, without, change);
  return line;
}

function newLabelText(labels) {
  if (labels.length === 0) return "no label would apply";
  return labels.length === 1 ? `the label would be ${labels[0]}` : `the labels would be ${labels.join(", ")}`;
}
