// A file of responses: chosen or dropped, its columns selected, scored in a worker, shown and saved.
import { at, made } from "./elements.mjs";
import { decision, labelText, NO_LABEL, probabilityText, decisionReason } from "./wording.mjs";

/** Make the panel score files with `engine`, by the model that `page` describes. */
export function showTable(engine, page) {
  const state = { file: null, running: null, address: null };

  async function take(file) {
    state.running?.stop();
    forget();
    state.file = file;
    if (!file) return;
    try {
      const found = await engine.inspect(file);
      if (state.file !== file) return;
      askForColumns(found);
    } catch (error) {
      at("table-problem").textContent = `${file.name}: ${error.message}`;
    }
  }

  function forget() {
    if (state.address) URL.revokeObjectURL(state.address);
    state.address = null;
    for (const id of ["table-problem", "summary", "graded-notes"]) at(id).textContent = "";
    for (const id of ["columns", "running", "graded"]) at(id).hidden = true;
    at("rows").replaceChildren();
  }

  function askForColumns({ columns, rows, chosen }) {
    at("choices").replaceChildren(...page.inputs.map((name) => choice(name, columns, chosen[name])));
    at("grade").textContent = rows === 1 ? "Score 1 row" : `Score ${rows.toLocaleString("en")} rows`;
    at("columns").hidden = false;
  }

  async function grade(event) {
    event.preventDefault();
    const file = state.file;
    const column = Object.fromEntries(page.inputs.map((name) => [name, at(`column-${name}`).value]));
    const open = page.inputs.find((name) => !column[name]);
    at("table-problem").textContent = open ? `Choose the column with the ${open.replace("_", " ")}.` : "";
    if (open) {
      at(`column-${open}`).focus();
      return;
    }
    forget();
    at("running").hidden = false;
    at("stop").focus();
    at("summary").textContent = "Scoring…";
    const running = (state.running = engine.grade(file, column, showProgress));
    try {
      const graded = await running.done;
      if (state.running === running) showGraded(graded, file);
    } catch (error) {
      if (state.running === running) showFailure(error, file);
    }
  }

  function showFailure(error, file) {
    at("running").hidden = true;
    at("columns").hidden = false;
    at("summary").textContent = error.kind === "stopped" ? "Stopped. No scores were saved." : "";
    if (error.kind !== "stopped") at("table-problem").textContent = `${file.name}: ${error.message}`;
    at("grade").focus();
  }

  function showGraded({ counts, shown, table }, file) {
    state.address = URL.createObjectURL(table);
    at("download").href = state.address;
    at("download").download = file.name.replace(/(\.[^.]*)?$/, "-scored$1");
    at("running").hidden = true;
    at("summary").textContent = summary(counts, page);
    at("graded-notes").textContent = notes(counts);
    at("rows").replaceChildren(...shown.map((row) => rowOf(row, page)));
    at("rows-caption").textContent =
      shown.length < counts.read ? `The first ${shown.length} rows; the saved table contains all rows` : "All rows";
    at("only-review").checked = false;
    filter();
    at("columns").hidden = false;
    at("graded").hidden = false;
    at("download").focus();
  }

  function filter() {
    for (const row of at("rows").children) row.hidden = at("only-review").checked && row.dataset.review !== "true";
  }

  at("file").addEventListener("change", () => take(at("file").files[0] ?? null));
  at("columns").addEventListener("submit", grade);
  at("stop").addEventListener("click", () => state.running?.stop());
  at("only-review").addEventListener("change", filter);
  takeDropped(take);
}

/** Accept a file that is dropped anywhere on the page; otherwise the browser would navigate to it. */
function takeDropped(take) {
  const over = (is) => at("drop").classList.toggle("over", is);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    over(true);
  });
  addEventListener("dragleave", () => over(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
}

function choice(name, columns, chosen) {
  const select = made("select");
  select.id = `column-${name}`;
  select.append(new Option("choose a column", ""), ...columns.map((column) => new Option(column, column)));
  select.value = chosen;
  const label = made("label", "", `Column with the ${name.replace("_", " ")}`);
  label.htmlFor = select.id;
  const field = made("div", "field");
  field.append(label, select);
  return field;
}

function showProgress({ read, rows }) {
  at("rows-progress").max = rows;
  at("rows-progress").value = read;
  at("rows-done").textContent = `${read.toLocaleString("en")} of ${rows.toLocaleString("en")} rows`;
}

function summary({ read, scored, errors, review, labels }, page) {
  const names = [...page.labels.map(({ name }) => name), NO_LABEL].filter((name) => labels.has(name));
  const each = names.map((name) => `${name} ${labels.get(name).toLocaleString("en")}`);
  const failed = errors ? `${errors.toLocaleString("en")} could not be scored, ` : "";
  return (
    `${read.toLocaleString("en")} rows read, ${scored.toLocaleString("en")} scored, ${failed}` +
    `${review.toLocaleString("en")} for human review. ${each.join(", ")}.`
  );
}

function notes({ guarded }) {
  if (!guarded) return "";
  const cells = guarded === 1 ? "One cell looks like a formula" : `${guarded.toLocaleString("en")} cells look like formulas`;
  return `${cells}. In the saved table, an apostrophe and a tab before the cell keep spreadsheets from evaluating it.`;
}

function rowOf({ row, response, score, error }, page) {
  const line = made("tr");
  line.dataset.review = String(!score || score.decision === "review");
  const number = made("th", "", String(row));
  number.scope = "row";
  const cells = [number, made("td", "", response)];
  if (score) {
    const decided = made("td");
    decided.append(made("span", `chip ${score.decision}`, decision(score)));
    if (score.decision === "review") decided.append(made("small", "", decisionReason(score, page)));
    cells.push(made("td", "", labelText(score)), made("td", "", probabilityText(score, page)), decided);
  } else {
    const failed = made("td", "problem", error);
    failed.colSpan = 3;
    cells.push(failed);
  }
  line.append(...cells);
  return line;
}
