// The form for one response, and its score.
import { caption, decision, labelsOf, labelText, thresholdNote, percent, tokensText, probabilityText, decisionReason } from "./wording.mjs";
import { at, isolated, made } from "./elements.mjs";
import { said } from "./faults.mjs";
import { say } from "./language.mjs";
import { inEveryLanguage } from "./languages.mjs";

const INPUTS = ["question", "reference_answer", "rubric", "response"];

/** Make the form score with `engine`, by the model that `page` describes; `lesson` is that of `startLesson`. */
export function showForm(engine, page, lesson) {
  const state = { asked: null, found: null, problem: null, turn: 0 };
  const given = () => Object.fromEntries(page.inputs.map((name) => [name, at(name).value]));
  for (const name of INPUTS) at(`${name}-field`).hidden = !page.inputs.includes(name);

  function forget() {
    Object.assign(state, { asked: null, found: null, turn: state.turn + 1 });
    at("verdict").replaceChildren();
    at("result-details").hidden = true;
    at("result-empty").hidden = false;
  }

  async function score(event) {
    event?.preventDefault();
    const inputs = given();
    const turn = (state.turn += 1);
    showProblem(null);
    at("form").setAttribute("aria-busy", "true");
    try {
      const found = await engine.score(inputs);
      if (turn !== state.turn) return;
      Object.assign(state, { asked: inputs, found });
      showScore(found, page);
      changed();
      lesson.used();
      inView(at("result"));
    } catch (error) {
      forget();
      showProblem(error);
    } finally {
      at("form").removeAttribute("aria-busy");
    }
  }

  function showProblem(error) {
    state.problem = error;
    at("problem").textContent = error ? said(error) : "";
  }

  /** Warn when the score belongs to an earlier text. */
  function changed() {
    if (!state.asked) return;
    const stale = page.inputs.some((name) => state.asked[name] !== at(name).value);
    const note = at("verdict").querySelector(".stale");
    if (stale && !note) at("verdict").append(made("p", "stale", say("stale")));
    if (!stale) note?.remove();
  }

  at("form").addEventListener("submit", score);
  at("form").addEventListener("input", changed);
  at("form").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) score(event);
  });
  at("clear").addEventListener("click", () => {
    for (const name of INPUTS) at(name).value = "";
    showProblem(null);
    forget();
    at("response").focus();
  });
  inEveryLanguage(() => {
    showProblem(state.problem);
    if (!state.found) return;
    showScore(state.found, page);
    changed();
  });
}

/** Show the definition of each label, and its threshold. */
export function showCodebook(page) {
  at("definitions").replaceChildren(
    ...page.labels.map(({ name, definition }) => {
      const entry = made("div");
      entry.append(
        isolated(made("dt", "", name)),
        made("dd", "", (definition || say("no_definition")) + thresholdNote(name, page)),
      );
      return entry;
    }),
  );
}

function showScore(score, page) {
  at("result-empty").hidden = true;
  const label = made("span", "label", `${labelText(score)} `);
  label.append(made("small", "", probabilityText(score, page)));
  const headline = made("div", "headline");
  const decided = decision(score, page);
  headline.append(label, " ", made("span", `chip ${decided.kind}`, decided.text));
  at("verdict").replaceChildren(headline, " ", made("p", "why", decisionReason(score, page)));
  at("bars-caption").removeAttribute("data-say");
  at("bars-caption").textContent = caption(page);
  const given = labelsOf(score);
  at("bars").replaceChildren(
    ...page.labels.map(({ name }) => bar(name, score.probabilities.get(name), given, page.thresholds.get(name))),
  );
  at("reading").textContent = tokensText(score);
  at("result-details").hidden = false;
  for (const name of at("definitions").querySelectorAll("dt")) {
    name.classList.toggle("chosen", given.includes(name.textContent));
  }
}

/** A label's probability, with a mark at its threshold, if any. */
function bar(label, share, given, threshold) {
  const name = made("th");
  name.scope = "row";
  name.append(isolated(made("span", "", label)));
  const fill = made("div", "fill");
  fill.style.setProperty("--share", share);
  const track = made("div", "track");
  track.setAttribute("aria-hidden", "true");
  track.append(fill);
  if (threshold !== undefined) {
    const least = made("div", "least");
    least.style.setProperty("--least", threshold);
    track.append(least);
  }
  const figure = made("div", "share");
  figure.append(track, made("span", "", percent(share)));
  const cell = made("td");
  cell.append(figure);
  const line = made("tr", given.includes(label) ? "first" : "");
  line.append(name, cell);
  return line;
}

function inView(element) {
  const { top } = element.getBoundingClientRect();
  if (top > 0.7 * window.innerHeight || top < 0) element.scrollIntoView({ block: "start" });
}
