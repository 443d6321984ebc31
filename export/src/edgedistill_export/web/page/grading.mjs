// Scores all rows of a table, in order.
import { sha256 } from "./contexts.mjs";
import { isFormula, line } from "./csv.mjs";
import { TableFault } from "./faults.mjs";
import { readTable } from "./reading.mjs";

/** Rows that are shown, of all and of those for human review. */
const SHOWN = 500;
/** Questions that the summary shows. */
const QUESTIONS = 50;
/** Cells that a message names. */
const NAMED_CELLS = 5;
const PREFIX = "scored_";
const READING = ["unknown_share", "context_tokens", "context_tokens_lost", "novelty"];

/** The columns of a file, its number of rows, the columns that seem to contain the inputs, and how the file was read. */
export async function inspect(bytes, page) {
  const { columns, rows, encoding, header, sheet, formulas } = await readTable(bytes, page.inputs);
  const chosen = page.inputs.map((name) => columns.find((column) => column.trim().toLowerCase() === name) ?? "");
  if (page.inputs.length === 1 && columns.length === 1) chosen[0] = columns[0];
  const byInput = Object.fromEntries(page.inputs.map((name, at) => [name, chosen[at]]));
  return { columns, rows: rows.length, chosen: byInput, encoding, header, sheet, formulas: cellNames(formulas) };
}

/** The cells as messages name them; "" for none. */
function cellNames(formulas) {
  const names = formulas.slice(0, NAMED_CELLS).map(({ cell }) => cell);
  return [...names, ...(formulas.length > NAMED_CELLS ? ["\u2026"] : [])].join(", ");
}

/**
 * Score a file. `column` maps each input to its column. `score(inputs)` scores one response, `ahead()` returns how many
 * may be in progress, `pause(counts)` is awaited after every row and throws to stop.
 * Returns `{ counts, shown, review, questions, lines }`: counts of rows and labels, the first rows and the first for human
 * review, the counts by question if the task has one, and the table with its scores as lines of text.
 */
export async function grade(bytes, page, column, { score, ahead, pause }) {
  const table = await readTable(bytes, page.inputs);
  const places = page.inputs.map((name) => [name, table.columns.indexOf(column[name])]);
  const missing = places.find(([, at]) => at < 0);
  if (missing) throw new TableFault("fault_no_column", { input: missing[0] });
  const open = table.formulas.filter((each) => page.inputs.some((name) => column[name] === each.column));
  if (open.length) throw new TableFault("fault_formulas", { cells: cellNames(open) });
  const added = addedColumns(page, table.columns);
  const counts = { ...newCounts(), rows: table.rows.length, guarded: 0 };
  const questions = new Map();
  const identify = identifier(table.columns);
  const lines = [`${table.marked ? "\ufeff" : ""}${line([...table.columns, ...added], table.separator)}`];
  const shown = [];
  const review = [];
  const waiting = [];
  const known = new Map();

  async function finish({ cells, inputs, result }) {
    const found = await result;
    if (found.fault) throw found.fault;
    counts.guarded += cells.filter(isFormula).length;
    count(counts, found, page);
    if (inputs.question !== undefined) countQuestion(questions, inputs.question, found, page);
    lines.push(line([...cells, ...values(found, page)], table.separator));
    const row = table.numbers.at(counts.read - 1);
    const isShown = shown.length < SHOWN;
    const isForReview = !found.score || found.score.decision === "review";
    const entry = { row, id: identify(cells, inputs, row), inputs, ...found };
    if (isShown) shown.push(entry);
    if (isForReview && review.length < SHOWN) review.push(entry);
    await pause(counts);
  }

  for (const cells of table.rows) {
    const inputs = Object.fromEntries(places.map(([name, place]) => [name, cells[place]]));
    waiting.push({ cells, inputs, result: once(known, JSON.stringify(inputs), () => attempt(score, inputs)) });
    while (waiting.length > ahead()) await finish(waiting.shift());
  }
  for (const row of waiting) await finish(row);
  return { counts, shown, review, questions: [...questions], lines };
}

/**
 * Returns `id(cells, inputs, row)`: the row's text in the column “id”, or one that no other text has, so that codes of
 * several classes can be put together.
 */
function identifier(columns) {
  const place = columns.findIndex((column) => column.trim().toLowerCase() === "id");
  return (cells, inputs, row) => {
    const given = place < 0 ? "" : cells.at(place).trim();
    return given || `row-${row}-${sha256(JSON.stringify(Object.values(inputs))).slice(0, 12)}`;
  };
}

/**
 * The table of a person's codes, as `edgedistill review merge` reads it. `entries` are rows of `grade`, `codes` maps their
 * ids to codes; rows without a code are left out.
 */
export function codeLines(entries, codes, page) {
  const columns = ["id", ...page.inputs, "suggested_label", "probability", "reason", "human_code"];
  const coded = entries.filter(({ id }) => codes.has(id));
  const rows = coded.map(({ id, inputs, score }) => [
    id,
    ...page.inputs.map((name) => inputs[name]),
    score?.label ?? "",
    score ? score.probability.toFixed(3) : "",
    score?.reason ?? "",
    codes.get(id),
  ]);
  return [`\ufeff${line(columns, ",")}`, ...rows.map((cells) => line(cells, ","))];
}

/** The names of the added columns, in order, prefixed so that none is in the table already. */
function addedColumns(page, taken) {
  const shares = page.labels.map(({ name }) => `probability_${name}`);
  const names = ["label", "probability", ...shares, "decision", "reason", "truncated", "tokens", ...READING, "error"];
  let prefix = "";
  while (names.some((name) => taken.includes(prefix + name))) prefix += PREFIX;
  return names.map((name) => prefix + name);
}

function values({ score, error }, page) {
  const shares = page.labels.map(({ name }) => score?.probabilities.get(name) ?? null);
  if (!score) return [null, null, ...shares, null, null, null, null, ...READING.map(() => null), error.message];
  const { label, probability, decision, reason, truncated, tokens } = score;
  return [label, probability, ...shares, decision, reason, truncated, tokens, ...READING.map((name) => score[name]), null];
}

async function attempt(score, inputs) {
  try {
    return { score: await score(inputs) };
  } catch (error) {
    if (error.kind !== "unscorable") return { fault: error };
    const { message, key, values: given } = error;
    return { error: { message, key, values: given } };
  }
}

/** Equal rows are scored once. */
function once(known, key, make) {
  if (!known.has(key)) known.set(key, make());
  return known.get(key);
}

function newCounts() {
  return { read: 0, scored: 0, errors: 0, review: 0, labels: new Map() };
}

function count(counts, { score }, page) {
  counts.read += 1;
  if (!score) {
    counts.errors += 1;
    return;
  }
  counts.scored += 1;
  // Of a multilabel task every label that holds counts, and "none".
  const labels = page.kind === "multilabel" ? score.label.split(";") : [score.label];
  for (const label of labels) counts.labels.set(label, (counts.labels.get(label) ?? 0) + 1);
  if (score.decision === "review") counts.review += 1;
}

function countQuestion(questions, question, found, page) {
  const name = question.trim();
  if (!questions.has(name) && questions.size === QUESTIONS) return;
  count(once(questions, name, newCounts), found, page);
}
