// Scores all rows of a table, in order.
import { isFormula, line, readTable, TableFault } from "./csv.mjs";

const SHOWN = 500;
const PREFIX = "scored_";
const READING = ["unknown_share", "context_tokens", "context_tokens_lost", "novelty"];

/** The columns of a file, its number of rows, and the columns that seem to contain the inputs. */
export function inspect(bytes, page) {
  const { columns, rows } = readTable(bytes, page.inputs);
  const chosen = page.inputs.map((name) => columns.find((column) => column.trim().toLowerCase() === name) ?? "");
  if (page.inputs.length === 1 && columns.length === 1) chosen[0] = columns[0];
  return { columns, rows: rows.length, chosen: Object.fromEntries(page.inputs.map((name, at) => [name, chosen[at]])) };
}

/**
 * Score a file. `column` maps each input to its column. `score(inputs)` scores one response, `ahead()` returns how many
 * may be in progress, `pause(counts)` is awaited after every row and throws to stop.
 * Returns `{ counts, shown, lines }`: the table with its scores as lines of text.
 */
export async function grade(bytes, page, column, { score, ahead, pause }) {
  const table = readTable(bytes, page.inputs);
  const places = page.inputs.map((name) => [name, table.columns.indexOf(column[name])]);
  const missing = places.find(([, at]) => at < 0);
  if (missing) throw new TableFault(`no column was chosen for the input “${missing[0]}”`);
  const added = addedColumns(page, table.columns);
  const counts = { read: 0, rows: table.rows.length, scored: 0, errors: 0, review: 0, guarded: 0, labels: new Map() };
  const lines = [`${table.marked ? "\ufeff" : ""}${line([...table.columns, ...added], table.separator)}`];
  const shown = [];
  const waiting = [];
  const known = new Map();

  async function finish({ cells, inputs, result }) {
    const found = await result;
    if (found.fault) throw found.fault;
    count(counts, found, cells, page);
    lines.push(line([...cells, ...values(found, page)], table.separator));
    if (shown.length < SHOWN) shown.push({ row: counts.read + 1, response: inputs.response, ...found });
    await pause(counts);
  }

  for (const cells of table.rows) {
    const inputs = Object.fromEntries(places.map(([name, place]) => [name, cells[place]]));
    waiting.push({ cells, inputs, result: once(known, JSON.stringify(inputs), () => attempt(score, inputs)) });
    while (waiting.length > ahead()) await finish(waiting.shift());
  }
  for (const row of waiting) await finish(row);
  return { counts, shown, lines };
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
  if (!score) return [null, null, ...shares, null, null, null, null, ...READING.map(() => null), error];
  const { label, probability, decision, reason, truncated, tokens } = score;
  return [label, probability, ...shares, decision, reason, truncated, tokens, ...READING.map((name) => score[name]), null];
}

async function attempt(score, inputs) {
  try {
    return { score: await score(inputs) };
  } catch (error) {
    return error.kind === "unscorable" ? { error: error.message } : { fault: error };
  }
}

/** Equal rows are scored once. */
function once(known, key, make) {
  if (!known.has(key)) known.set(key, make());
  return known.get(key);
}

function count(counts, { score }, cells, page) {
  counts.read += 1;
  counts.guarded += cells.filter(isFormula).length;
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
