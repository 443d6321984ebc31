// Scores the rows of a table, in order; none is left out.
import { isFormula, line, readTable, TableFault } from "./csv.mjs";
import { Unscorable } from "./scorer.mjs";

const SHOWN = 500;
const PREFIX = "scored_";

/** The columns of a file and how they were told apart: what a person is asked about before it is scored. */
export function inspect(bytes, page) {
  const { columns, rows } = readTable(bytes, page.inputs);
  const chosen = page.inputs.map((name) => columns.find((column) => column.trim().toLowerCase() === name) ?? "");
  if (page.inputs.length === 1 && columns.length === 1) chosen[0] = columns[0];
  return { columns, rows: rows.length, chosen: Object.fromEntries(page.inputs.map((name, at) => [name, chosen[at]])) };
}

/**
 * Score a file. `score(inputs)` scores one response, `column` names the column of each input, `pause(counts)` is awaited
 * after every row and throws to stop.
 * Returns `{ counts, shown, lines, columns }`: the table with its scores as lines of text.
 */
export async function grade(bytes, page, column, score, pause) {
  const table = readTable(bytes, page.inputs);
  const places = page.inputs.map((name) => [name, table.columns.indexOf(column[name])]);
  const missing = places.find(([, at]) => at < 0);
  if (missing) throw new TableFault(`no column was chosen for the input “${missing[0]}”`);
  const added = addedColumns(page, table.columns);
  const counts = { read: 0, rows: table.rows.length, scored: 0, errors: 0, review: 0, guarded: 0, labels: {} };
  const lines = [`${table.marked ? "\ufeff" : ""}${line([...table.columns, ...added], table.separator)}`];
  const shown = [];
  const known = new Map();
  for (const [at, cells] of table.rows.entries()) {
    const inputs = Object.fromEntries(places.map(([name, place]) => [name, cells[place]]));
    const result = await once(known, JSON.stringify(inputs), () => attempt(score, inputs));
    count(counts, result, cells);
    lines.push(line([...cells, ...values(result, page)], table.separator));
    if (shown.length < SHOWN) shown.push({ row: at + 2, response: inputs.response, ...result });
    await pause(counts);
  }
  return { counts, shown, lines };
}

/** What is added to every row, in this order, under names that the table does not have yet. */
function addedColumns(page, taken) {
  const shares = page.labels.map(({ name }) => `probability_${name}`);
  const names = ["label", "probability", ...shares, "decision", "reason", "truncated", "tokens", "error"];
  let prefix = "";
  while (names.some((name) => taken.includes(prefix + name))) prefix += PREFIX;
  return names.map((name) => prefix + name);
}

function values({ score, error }, page) {
  const shares = page.labels.map(({ name }) => score?.probabilities[name] ?? null);
  if (!score) return [null, null, ...shares, null, null, null, null, error];
  const { label, probability, decision, reason, truncated, tokens } = score;
  return [label, probability, ...shares, decision, reason, truncated, tokens, null];
}

async function attempt(score, inputs) {
  try {
    return { score: await score(inputs) };
  } catch (error) {
    if (error instanceof Unscorable) return { error: error.message };
    throw error;
  }
}

/** Equal rows are scored once. */
async function once(known, key, make) {
  if (!known.has(key)) known.set(key, await make());
  return known.get(key);
}

function count(counts, { score }, cells) {
  counts.read += 1;
  counts.guarded += cells.filter(isFormula).length;
  if (!score) {
    counts.errors += 1;
    return;
  }
  counts.scored += 1;
  counts.labels[score.label] = (counts.labels[score.label] ?? 0) + 1;
  if (score.decision === "review") counts.review += 1;
}
