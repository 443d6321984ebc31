// The page: reads the form, asks the server, shows the answer. Nothing is stored; the key lives in its field alone.
import { ask, Refusal } from "./server.js";
import {
  caption,
  decision,
  isMultilabel,
  labelsOf,
  leastSure,
  named,
  needs,
  percent,
  reading,
  refusal,
  sureness,
  why,
} from "./wording.js";
import { showWords } from "./words.js";

const INPUTS = ["question", "reference_answer", "response"];
const at = (id) => document.getElementById(id);
const state = { models: [], asked: null, explained: null, sending: null };

function chosen() {
  return state.models.find((model) => idOf(model) === at("model").value) ?? state.models[0];
}

/** As a request names a model: by its version too where that is needed to tell it from another. */
function idOf(model) {
  const alike = state.models.filter((other) => other.name === model.name);
  return alike.length > 1 ? `${model.name}@${model.version}` : model.name;
}

function made(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

async function loadModels() {
  try {
    const { models } = await ask("v1/models", { key: at("key").value });
    at("problem").textContent = "";
    state.models = models;
    at("model").replaceChildren(...models.map((model) => new Option(idOf(model), idOf(model))));
    at("model-field").hidden = models.length < 2;
    showModel();
  } catch (error) {
    fail(error);
    if (error.status === 0 || error.status === 503) setTimeout(loadModels, 2000);
  }
}

function showModel() {
  const model = chosen();
  for (const name of INPUTS) at(`${name}-field`).hidden = !model.inputs.includes(name);
  at("served").textContent = `The model “${idOf(model)}” scores it, here on this server.`;
  at("definitions").replaceChildren(
    ...model.labels.map((label) => {
      const entry = made("div", "");
      const definition = model.definitions?.[label] || "The codebook has no definition for this label.";
      entry.append(made("dt", "", label), made("dd", "", definition + needs(label, model)));
      return entry;
    }),
  );
  at("codebook").hidden = false;
  const notes = model.notes?.length ? ` ${model.notes.join(". ")}.` : "";
  at("model-facts").textContent =
    `${model.name}, version ${model.version}, ${model.precision}; reads at most ${model.max_tokens} tokens.${notes}`;
  forget();
}

/** Take the last answer off the page, and give up on one that is still to come. */
function forget() {
  state.sending?.abort();
  state.asked = null;
  at("verdict").replaceChildren();
  for (const id of ["result-details", "words", "words-details"]) at(id).hidden = true;
  at("result-empty").hidden = false;
}

function showScore(score, model) {
  at("result-empty").hidden = true;
  const headline = made("div", "headline");
  const label = made("span", "label", `${named(score)} `);
  label.append(made("small", "", sureness(score, model)));
  headline.append(label, " ", made("span", `chip ${score.decision}`, decision(score)));
  at("verdict").replaceChildren(headline, " ", made("p", "why", why(score, model)));
  at("bars-caption").textContent = caption(model);
  const given = labelsOf(score);
  at("bars").replaceChildren(
    ...Object.entries(score.probabilities).map(([each, share]) => bar(each, share, given, model.thresholds[each])),
  );
  at("reading").textContent = reading(score);
  at("result-details").hidden = false;
  at("words").hidden = true;
  const names = [...at("definitions").querySelectorAll("dt")];
  for (const name of names) name.classList.toggle("chosen", given.includes(name.textContent));
}

/** A label's probability, and a mark at the threshold from which it holds, where there is one. */
function bar(label, share, given, threshold) {
  const line = made("tr", given.includes(label) ? "first" : "");
  const name = made("th", "");
  name.scope = "row";
  name.append(made("span", "", label));
  const cell = made("td", "");
  const figure = made("div", "share");
  const track = made("div", "track");
  track.setAttribute("aria-hidden", "true");
  const fill = made("div", "fill");
  fill.style.setProperty("--share", share);
  track.append(fill);
  if (threshold !== undefined) {
    const least = made("div", "least");
    least.style.setProperty("--least", threshold);
    track.append(least);
  }
  figure.append(track, made("span", "", percent(share)));
  cell.append(figure);
  line.append(name, cell);
  return line;
}

function fail(error, place = at("problem")) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Refusal)) throw error;
  place.textContent = refusal(error);
  if (error.status === 401 || error.status === 403) {
    at("key-field").hidden = false;
    at("key").setAttribute("aria-invalid", "true");
    at("key").focus();
  }
}

/** Ask with the form marked busy; a later question takes the place of one that is still open. */
async function send(path, body, place) {
  state.sending?.abort();
  const sending = (state.sending = new AbortController());
  at("problem").textContent = "";
  at("form").setAttribute("aria-busy", "true");
  try {
    const answer = await ask(path, { key: at("key").value, body, signal: sending.signal });
    at("key").removeAttribute("aria-invalid");
    return answer;
  } catch (error) {
    fail(error, place);
    return null;
  } finally {
    if (state.sending === sending) at("form").removeAttribute("aria-busy");
  }
}

function inView(element) {
  const { top } = element.getBoundingClientRect();
  if (top > 0.7 * window.innerHeight || top < 0) element.scrollIntoView({ block: "start" });
}

async function score(event) {
  event?.preventDefault();
  if (state.models.length === 0) {
    await loadModels();
    return;
  }
  const model = chosen();
  const inputs = Object.fromEntries(model.inputs.map((name) => [name, at(name).value]));
  const answer = await send("v1/score", { ...inputs, model: idOf(model) });
  if (!answer) return;
  state.asked = { ...inputs, model: idOf(model) };
  showScore(answer, model);
  inView(at("result"));
}

async function explain() {
  const asked = state.asked;
  at("words").hidden = false;
  at("words-details").hidden = true;
  at("words-summary").textContent = "Leaving out each word in turn…";
  const answer = await send("v1/explain", asked, at("words-summary"));
  if (state.asked !== asked || !answer) return;
  state.explained = answer;
  const model = chosen();
  at("words-label").replaceChildren(...model.labels.map((label) => new Option(label, label)));
  at("words-label").value = isMultilabel(model) ? leastSure(answer, model) : answer.label;
  at("words-label-field").hidden = !isMultilabel(model);
  showWordsOfLabel();
  at("words-details").hidden = false;
  inView(at("words"));
}

function showWordsOfLabel() {
  const [text, legend, table, rows, summary] = ["text", "legend", "table", "rows", "summary"].map((part) => at(`words-${part}`));
  showWords(state.asked.response, state.explained, at("words-label").value, { text, legend, table, rows, summary });
}

/** A score beside a text that it was not made for would mislead. */
function changed() {
  if (!state.asked) return;
  const stale = INPUTS.some((name) => state.asked[name] !== undefined && state.asked[name] !== at(name).value);
  const note = at("verdict").querySelector(".stale");
  if (stale && !note) at("verdict").append(made("p", "stale", "The text has changed since. Score it again."));
  if (!stale) note?.remove();
}

function clear() {
  for (const name of INPUTS) at(name).value = "";
  at("problem").textContent = "";
  forget();
  at("response").focus();
}

at("form").addEventListener("submit", score);
at("form").addEventListener("input", changed);
at("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) score(event);
});
at("model").addEventListener("change", showModel);
at("key").addEventListener("change", () => state.models.length === 0 && loadModels());
at("clear").addEventListener("click", clear);
at("explain").addEventListener("click", explain);
at("words-label").addEventListener("change", showWordsOfLabel);
loadModels();
