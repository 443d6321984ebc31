// The page: sends the form to the server and shows the answer. Nothing is stored; the API key is kept in its field only.
import { request, RequestError } from "./server.js";
import {
  caption,
  contextsNote,
  noveltyNote,
  promiseNote,
  decision,
  verdictNote,
  isMultilabel,
  labelsOf,
  leastCertain,
  labelText,
  thresholdNote,
  percent,
  tokensText,
  errorMessage,
  probabilityText,
  decisionReason,
} from "./wording.js";
import { showWords } from "./word_effects.js";

const INPUTS = ["question", "reference_answer", "rubric", "response"];
const at = (id) => document.getElementById(id);
const state = { models: [], scored: null, explained: null, pending: null };

function selectedModel() {
  return state.models.find((model) => idOf(model) === at("model").value) ?? state.models[0];
}

/** The name of a model in requests, with its version if several models have the same name. */
function idOf(model) {
  const sameName = state.models.filter((other) => other.name === model.name);
  return sameName.length > 1 ? `${model.name}@${model.version}` : model.name;
}

function createElement(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

async function loadModels() {
  try {
    const { models } = await request("v1/models", { key: at("key").value });
    at("problem").textContent = "";
    state.models = models;
    at("model").replaceChildren(...models.map((model) => new Option(idOf(model), idOf(model))));
    at("model-field").hidden = models.length < 2;
    showModel();
  } catch (error) {
    showError(error);
    if (error.status === 0 || error.status === 503) setTimeout(loadModels, 2000);
  }
}

function showModel() {
  const model = selectedModel();
  for (const name of INPUTS) at(`${name}-field`).hidden = !model.inputs.includes(name);
  at("served").textContent = `Scored by the model “${idOf(model)}” on this server.`;
  at("validation").textContent = verdictNote(model);
  at("definitions").replaceChildren(
    ...model.labels.map((label) => {
      const entry = createElement("div", "");
      const definition = model.definitions?.get(label) || "The codebook has no definition for this label.";
      entry.append(createElement("dt", "", label), createElement("dd", "", definition + thresholdNote(label, model)));
      return entry;
    }),
  );
  at("codebook").hidden = false;
  const notes = model.notes?.length ? ` ${model.notes.join(". ")}.` : "";
  at("model-facts").textContent =
    `${model.name}, version ${model.version}, ${model.precision}; reads up to ${model.max_tokens} tokens.${notes} ${contextsNote(model)} ${noveltyNote(model)} ${promiseNote(model)}`;
  reset();
}

/** Remove the last answer from the page, and cancel a pending request. */
function reset() {
  state.pending?.abort();
  state.scored = null;
  at("verdict").replaceChildren();
  for (const id of ["result-details", "words", "words-details"]) at(id).hidden = true;
  at("result-empty").hidden = false;
}

function showScore(score, model) {
  at("result-empty").hidden = true;
  const headline = createElement("div", "headline");
  const decided = decision(score, model);
  const label = createElement("span", "label", `${labelText(score)} `);
  label.append(createElement("small", "", probabilityText(score, model)));
  headline.append(label, " ", createElement("span", `chip ${decided.kind}`, decided.text));
  at("verdict").replaceChildren(headline, " ", createElement("p", "why", decisionReason(score, model)));
  at("bars-caption").textContent = caption(model);
  const assigned = labelsOf(score);
  at("bars").replaceChildren(
    ...model.labels.map((each) => bar(each, score.probabilities.get(each), assigned, model.thresholds.get(each))),
  );
  at("reading").textContent = tokensText(score);
  at("result-details").hidden = false;
  at("words").hidden = true;
  const names = [...at("definitions").querySelectorAll("dt")];
  for (const name of names) name.classList.toggle("chosen", assigned.includes(name.textContent));
}

/** A label's probability, with a mark at its threshold, if it has one. */
function bar(label, share, assigned, threshold) {
  const line = createElement("tr", assigned.includes(label) ? "first" : "");
  const name = createElement("th", "");
  name.scope = "row";
  name.append(createElement("span", "", label));
  const cell = createElement("td", "");
  const figure = createElement("div", "share");
  const track = createElement("div", "track");
  track.setAttribute("aria-hidden", "true");
  const fill = createElement("div", "fill");
  fill.style.setProperty("--share", share);
  track.append(fill);
  if (threshold !== undefined) {
    const least = createElement("div", "least");
    least.style.setProperty("--least", threshold);
    track.append(least);
  }
  figure.append(track, createElement("span", "", percent(share)));
  cell.append(figure);
  line.append(name, cell);
  return line;
}

function showError(error, place = at("problem")) {
  if (error.name === "AbortError") return;
  if (!(error instanceof RequestError)) throw error;
  place.textContent = errorMessage(error);
  if (error.status === 401 || error.status === 403) {
    at("key-field").hidden = false;
    at("key").setAttribute("aria-invalid", "true");
    at("key").focus();
  }
}

/** Send a request with the form marked as busy; a new request cancels a pending one. */
async function send(path, body, place) {
  state.pending?.abort();
  const controller = (state.pending = new AbortController());
  at("problem").textContent = "";
  at("form").setAttribute("aria-busy", "true");
  try {
    const answer = await request(path, { key: at("key").value, body, signal: controller.signal });
    at("key").removeAttribute("aria-invalid");
    return answer;
  } catch (error) {
    showError(error, place);
    return null;
  } finally {
    if (state.pending === controller) at("form").removeAttribute("aria-busy");
  }
}

function scrollToElement(element) {
  const { top } = element.getBoundingClientRect();
  if (top > 0.7 * window.innerHeight || top < 0) element.scrollIntoView({ block: "start" });
}

async function score(event) {
  event?.preventDefault();
  if (state.models.length === 0) {
    await loadModels();
    return;
  }
  const model = selectedModel();
  const inputs = Object.fromEntries(model.inputs.map((name) => [name, at(name).value]));
  const answer = await send("v1/score", { ...inputs, model: idOf(model) });
  if (!answer) return;
  state.scored = { ...inputs, model: idOf(model) };
  showScore(answer, model);
  scrollToElement(at("result"));
}

async function explain() {
  const scored = state.scored;
  at("words").hidden = false;
  at("words-details").hidden = true;
  at("words-summary").textContent = "Removing each word in turn…";
  const answer = await send("v1/explain", scored, at("words-summary"));
  if (state.scored !== scored || !answer) return;
  state.explained = answer;
  const model = selectedModel();
  at("words-label").replaceChildren(...model.labels.map((label) => new Option(label, label)));
  at("words-label").value = isMultilabel(model) ? leastCertain(answer, model) : answer.label;
  at("words-label-field").hidden = !isMultilabel(model);
  showWordsOfLabel();
  at("words-details").hidden = false;
  scrollToElement(at("words"));
}

function showWordsOfLabel() {
  const [text, legend, table, rows, summary] = ["text", "legend", "table", "rows", "summary"].map((part) => at(`words-${part}`));
  showWords(state.scored.response, state.explained, at("words-label").value, { text, legend, table, rows, summary });
}

/** Mark the score as outdated when the text has changed. */
function markStale() {
  if (!state.scored) return;
  const stale = INPUTS.some((name) => state.scored[name] !== undefined && state.scored[name] !== at(name).value);
  const note = at("verdict").querySelector(".stale");
  if (stale && !note) at("verdict").append(createElement("p", "stale", "The text has changed. Score it again."));
  if (!stale) note?.remove();
}

function clear() {
  for (const name of INPUTS) at(name).value = "";
  at("problem").textContent = "";
  reset();
  at("response").focus();
}

at("form").addEventListener("submit", score);
at("form").addEventListener("input", markStale);
at("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) score(event);
});
at("model").addEventListener("change", showModel);
at("key").addEventListener("change", () => state.models.length === 0 && loadModels());
at("clear").addEventListener("click", clear);
at("explain").addEventListener("click", explain);
at("words-label").addEventListener("change", showWordsOfLabel);
loadModels();
