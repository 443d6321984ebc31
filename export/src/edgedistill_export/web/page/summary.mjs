// How often each label occurs in a file, how many rows are for a person, and the same by question.
import { at, isolated, made } from "./elements.mjs";
import { number, say } from "./language.mjs";
import { isMultilabel, NO_LABEL, percent } from "./wording.mjs";

/** Show the counts of a scored file; `questions` has each question with its counts. */
export function showSummary(counts, questions, page) {
  const names = page.labels.map(({ name }) => name);
  if (isMultilabel(page)) names.push(NO_LABEL);
  const textOf = (name) => (name === NO_LABEL && isMultilabel(page) ? say("no_label") : name);
  const rows = names.map((name) => figures(textOf(name), counts.labels.get(name) ?? 0, counts.scored));
  rows.push(figures(say("for_review"), counts.review, counts.read));
  if (counts.errors) rows.push(figures(say("not_scored"), counts.errors, counts.read));
  at("labels").replaceChildren(...rows);

  at("by-question").hidden = questions.length < 2;
  const shown = questions.reduce((sum, [, each]) => sum + each.read, 0);
  at("questions-caption").textContent =
    shown < counts.read ? say("questions_first", { count: questions.length }) : say("questions_caption");
  const columns = [say("question"), say("responses"), ...names.map(textOf), say("for_review")];
  const head = made("tr");
  head.append(...columns.map((column) => heading("col", column)));
  at("questions-head").replaceChildren(head);
  at("questions").replaceChildren(...questions.map(([question, each]) => questionRow(question, each, names)));
}

function figures(name, count, of) {
  const row = made("tr");
  row.append(heading("row", name), made("td", "", number(count)), made("td", "", of ? percent(count / of) : "–"));
  return row;
}

function questionRow(question, { read, review, labels }, names) {
  const row = made("tr");
  const cells = names.map((name) => made("td", "", number(labels.get(name) ?? 0)));
  row.append(heading("row", question), made("td", "", number(read)), ...cells, made("td", "", percent(review / read)));
  return row;
}

function heading(scope, text) {
  const cell = isolated(made("th", "", text));
  cell.scope = scope;
  return cell;
}
