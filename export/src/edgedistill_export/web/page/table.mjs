// A file of responses: chosen or dropped, its columns selected, scored in a worker, shown, summarized, coded and saved.
import { Codes } from "./codes.mjs";
import { at, isolated, made } from "./elements.mjs";
import { said } from "./faults.mjs";
import { say } from "./language.mjs";
import { inEveryLanguage } from "./languages.mjs";
import { showSummary } from "./summary.mjs";
import { decision, labelText, NO_LABEL, probabilityText, decisionReason } from "./wording.mjs";

/** Make the panel score files with `engine`, by the model that `page` describes; `lesson` is that of `startLesson`. */
export function showTable(engine, page, lesson) {
  const state = { file: null, running: null, address: null, inspected: null, graded: null, problem: null, summary: null };
  const codes = new Codes(page);

  async function take(file) {
    state.running?.stop();
    forget();
    Object.assign(state, { file, inspected: null });
    render();
    if (!file) return;
    try {
      const inspected = await engine.inspect(file);
      if (state.file !== file) return;
      state.inspected = inspected;
      at("choices").replaceChildren(...page.inputs.map((name) => choice(name, inspected.columns, inspected.chosen[name])));
    } catch (error) {
      if (state.file === file) state.problem = () => `${file.name}: ${said(error)}`;
    }
    render();
  }

  function forget() {
    if (state.address) URL.revokeObjectURL(state.address);
    Object.assign(state, { address: null, graded: null, problem: null, summary: null });
    codes.forget();
    at("running").hidden = true;
  }

  /** Show the state; what the reader chose stays. */
  function render() {
    at("table-problem").textContent = state.problem ? state.problem() : "";
    at("summary").textContent = state.summary ? state.summary() : "";
    at("columns").hidden = !state.inspected || !at("running").hidden;
    at("graded").hidden = !state.graded;
    at("rows").replaceChildren();
    if (state.inspected) renderColumns(state.inspected);
    if (state.graded) renderGraded(state.graded);
  }

  function renderColumns({ rows, encoding, header, sheet, formulas }) {
    at("grade").textContent = say("score_rows", { count: rows });
    const isOneOfMany = sheet && sheet.count > 1;
    const notes = [
      encoding && say("read_as", { encoding }),
      isOneOfMany && say("read_sheet", sheet),
      header > 1 && say("read_header", { row: header }),
      formulas && say("read_formulas", { cells: formulas }),
    ];
    at("read-as").textContent = notes.filter(Boolean).join(" ");
    for (const name of page.inputs) {
      at(`column-${name}`).labels[0].textContent = say(`column_${name}`);
      at(`column-${name}`).options[0].textContent = say("choose_column");
    }
  }

  async function grade(event) {
    event.preventDefault();
    const file = state.file;
    const column = Object.fromEntries(page.inputs.map((name) => [name, at(`column-${name}`).value]));
    const open = page.inputs.find((name) => !column[name]);
    if (open) {
      state.problem = () => say(`choose_${open}`);
      render();
      at(`column-${open}`).focus();
      return;
    }
    forget();
    at("running").hidden = false;
    state.summary = () => say("scoring");
    render();
    at("stop").focus();
    const running = (state.running = engine.grade(file, column, showProgress));
    try {
      const graded = await running.done;
      if (state.running === running) showGraded(graded, file);
    } catch (error) {
      if (state.running === running) showFailure(error, file);
    } finally {
      if (state.running === running) state.running = null;
    }
  }

  function showFailure(error, file) {
    at("running").hidden = true;
    const isStopped = error.kind === "stopped";
    state.summary = isStopped ? () => say("stopped") : null;
    state.problem = isStopped ? null : () => `${file.name}: ${said(error)}`;
    render();
    at("grade").focus();
  }

  function showGraded({ table, ...graded }, file) {
    state.address = URL.createObjectURL(table);
    at("download").href = state.address;
    at("download").download = file.name.replace(/(\.[^.]*)?$/, (suffix) => `-scored${suffix === ".tsv" ? suffix : ".csv"}`);
    at("running").hidden = true;
    at("only-review").checked = false;
    state.graded = graded;
    state.summary = () => summary(graded.counts, page);
    codes.start(graded.review, graded.counts.review + graded.counts.errors, file.name);
    render();
    lesson.used();
    at("download").focus();
  }

  function renderGraded({ counts, shown, review, questions }) {
    at("graded-notes").textContent = counts.guarded ? say("formulas", { count: counts.guarded }) : "";
    showSummary(counts, questions, page);
    const isOnlyReview = at("only-review").checked;
    const rows = isOnlyReview ? review : shown;
    const all = isOnlyReview ? counts.review + counts.errors : counts.read;
    const key = isOnlyReview ? "rows_review" : "rows_all";
    const partly = isOnlyReview ? "rows_review_first" : "rows_first";
    at("rows-caption").textContent = rows.length < all ? say(partly, { count: rows.length }) : say(key);
    at("rows").replaceChildren(...rows.map((row) => rowOf(row, page, codes)));
    codes.render();
  }

  at("file").addEventListener("change", () => take(at("file").files[0] ?? null));
  at("columns").addEventListener("submit", grade);
  at("stop").addEventListener("click", () => state.running?.stop());
  at("only-review").addEventListener("change", render);
  takeDropped(take);
  inEveryLanguage(render);
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
  select.append(new Option("", ""), ...columns.map((column) => new Option(column, column)));
  select.value = chosen;
  const label = made("label");
  label.htmlFor = select.id;
  const field = made("div", "field");
  field.append(label, select);
  return field;
}

function showProgress({ read, rows }) {
  at("rows-progress").max = rows;
  at("rows-progress").value = read;
  at("rows-done").textContent = say("rows_done", { read, rows });
}

function summary({ read, scored, errors, review, labels }, page) {
  const names = [...page.labels.map(({ name }) => name), NO_LABEL].filter((name) => labels.has(name));
  const each = names.map((name) => say("label_count", { label: name, count: labels.get(name) }));
  return `${say(errors ? "summary_errors" : "summary", { read, scored, errors, review })} ${each.join(say("comma"))}.`;
}

function rowOf(entry, page, codes) {
  const { row, inputs, score, error } = entry;
  const line = made("tr");
  const heading = made("th", "", String(row));
  heading.scope = "row";
  const cells = [heading, isolated(made("td", "", inputs.response))];
  if (score) {
    const decided = made("td");
    const { text, kind } = decision(score, page);
    decided.append(made("span", `chip ${kind}`, text));
    if (score.decision === "review") decided.append(made("small", "", decisionReason(score, page)));
    cells.push(isolated(made("td", "", labelText(score))), made("td", "", probabilityText(score, page)), decided);
  } else {
    const failed = made("td", "problem", said(error));
    failed.colSpan = 3;
    cells.push(failed);
  }
  const coded = made("td");
  if (!score || score.decision === "review") coded.append(codes.field(entry));
  line.append(...cells, coded);
  return line;
}
