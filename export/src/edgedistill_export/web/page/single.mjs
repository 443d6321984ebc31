// The form for one response, and its score.
import { caption, decision, labelsOf, labelText, thresholdNote, percent, tokensText, probabilityText, decisionReason } from "./wording.mjs";
import { at, made } from "./elements.mjs";

const INPUTS = ["question", "reference_answer", "rubric", "response"];

/** Make the form score with `engine`, by the model that `page` describes. */
export function showForm(engine, page) {
  const state = { asked: null, turn: 0 };
  const given = () => Object.fromEntries(page.inputs.map((name) => [name, at(name).value]));
  for (const name of INPUTS) at(`${name}-field`).hidden = !page.inputs.includes(name);

  function forget() {
    state.asked = null;
    state.turn += 1;
    at("verdict").replaceChildren();
    at("result-details").hidden = true;
    at("result-empty").hidden = false;
  }

  async function score(event) {
    event?.preventDefault();
    const inputs = given();
    const turn = (state.turn += 1);
    at("problem").textContent = "";
    at("form").setAttribute("aria-busy", "true");
    try {
      const found = await engine.score(inputs);
      if (turn !== state.turn) return;
      state.asked = inputs;
      showScore(found, page);
      changed();
      inView(at("result"));
    } catch (error) {
      forget();
      at("problem").textContent = error.message;
    } finally {
      at("form").removeAttribute("aria-busy");
    }
  }

  /** Warn when the score belongs to an earlier text. */
  function changed() {
    if (!state.asked) return;
    const stale = page.inputs.some((name) => state.asked[name] !== at(name).value);
    const note = at("verdict").querySelector(".stale");
    if (stale && !note) at("verdict").append(made("p", "stale", "The text has changed since it was scored. Score it again."));
    if (!stale) note?.remove();
  }

  at("form").addEventListener("submit", score);
  at("form").addEventListener("input", changed);
  at("form").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) score(event);
  });
  at("clear").addEventListener("click", () => {
    for (const name of INPUTS) at(name).value = "";
    at("problem").textContent = "";
    forget();
    at("response").focus();
  });
}

/** Show the definition of each label, and its threshold. */
export function showCodebook(page) {
  at("definitions").replaceChildren(
    ...page.labels.map(({ name, definition }) => {
      const entry = made("div");
      entry.append(
        made("dt", "", name),
        made("dd", "", (definition || "The codebook has no definition for this label.") + thresholdNote(name, page)),
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
  headline.append(label, " ", made("span", `chip ${score.decision}`, decision(score)));
  at("verdict").replaceChildren(headline, " ", made("p", "why", decisionReason(score, page)));
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
  name.append(made("span", "", label));
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
