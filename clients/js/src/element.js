// <edgedistill-score>: a form for one response and its score, for any page. It has no dependencies but the client.
import { Busy, Client, labelsOf, Refused, Unreachable } from "./client.js";

/** Inputs of a task besides the response, and the attributes that give them. */
const CONTEXT = { question: "question", reference_answer: "reference-answer", rubric: "rubric" };
const TEXTS = {
  question: "Question",
  reference_answer: "Reference answers, one a line",
  rubric: "Rubric",
  response: "Response",
  score: "Score",
  scoring: "Scoring…",
  accept: "Accepted",
  unvalidated: "Not validated",
  review: "Review by a person",
  none: "No label applies",
  probabilities: "Probabilities",
  label: "Label",
  probability: "Probability",
  blank: "The response is blank.",
  unreadable: "The model cannot read most of the response.",
  truncated: "The response is too long; only its beginning was scored.",
  "new question": "The decision rule was not shown for this question.",
  "unlike training": "The response is unlike those that the model was trained on.",
  "below threshold": "The model is not certain enough.",
  "not validated": "Test rows do not show that this label may be used without a person.",
  busy: "The server is busy. Try again later.",
  unreachable: "The server cannot be reached.",
  refused: "The server does not accept the request.",
  failed: "The response could not be scored.",
};
// A sheet that is constructed is not an inline style, which the page's Content-Security-Policy may forbid.
const STYLE = `
:host { display: block; }
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; }
form, .field, .result { display: grid; gap: .5rem; grid-template-columns: minmax(0, 1fr); }
form { gap: .75rem; }
.result { margin-top: .75rem; }
label, caption, th { font-weight: 600; text-align: start; }
textarea, button { border: 1px solid var(--edgedistill-edge, #767676); border-radius: .375rem; font: inherit; min-height: 2.75rem; padding: .5rem .75rem; }
textarea { background: Field; color: FieldText; resize: vertical; width: 100%; }
button { background: var(--edgedistill-accent, #0f6b5c); border-color: transparent; color: var(--edgedistill-on-accent, #ffffff); cursor: pointer; font-weight: 600; justify-self: start; }
button:disabled { cursor: progress; opacity: .7; }
:focus-visible { outline: 3px solid var(--edgedistill-accent, #0f6b5c); outline-offset: 2px; }
p { margin: 0; overflow-wrap: anywhere; }
.decision { border: 1px solid; border-radius: 1rem; display: inline-block; padding: .0625rem .625rem; }
.decision.accept { background: #dcf3e6; color: #0b5d3b; }
.decision.review { background: #fdeccf; color: #7a4100; }
.decision.unvalidated { background: #e6e6e6; color: #444444; }
.problem { color: var(--edgedistill-problem, light-dark(#a11d1d, #ff9c94)); }
.problem:empty { position: absolute; }
table { border-collapse: collapse; width: 100%; }
th, td { overflow-wrap: anywhere; padding: .125rem .5rem .125rem 0; vertical-align: middle; }
th[scope=row] { font-weight: 400; }
td { white-space: nowrap; }
.bar { background: var(--edgedistill-track, #d9dfdd); border-radius: .25rem; height: .625rem; min-width: 4rem; overflow: hidden; }
.fill { background: var(--edgedistill-bar, #5d716a); height: 100%; }
.unseen { clip-path: inset(50%); height: 1px; overflow: hidden; position: absolute; white-space: nowrap; width: 1px; }
@media (forced-colors: active) { .fill { background: CanvasText; } .bar, button { border: 1px solid; } }
`;
const sheet = new CSSStyleSheet();
sheet.replaceSync(STYLE);

/** An element with attributes and content; texts are never markup. */
function element(tag, attributes = {}, ...content) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...content);
  return made;
}

/** A probability as text; it is never rounded to 0 % or 100 %. */
function percent(share, language) {
  const text = (value, digits) => new Intl.NumberFormat(language, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
  if (share > 0 && share < 0.001) return `< ${text(0.001, 1)}`;
  if (share < 1 && share > 0.999) return `> ${text(0.999, 1)}`;
  return text(share, 1);
}

/**
 * A form for one response and its score.
 *
 * Attributes: `server` (the address; by default that of the page), `model`, `question`, `reference-answer`, `rubric` (given
 * by the page instead of by the person). Properties: `client`, `texts`, `value`, `result`. Events: `edgedistill-score` with
 * the result, `edgedistill-error` with the error. Parts for styles: form, field, label, input, button, result, decision,
 * reason, probabilities, bar, problem.
 */
export class EdgedistillScore extends HTMLElement {
  static observedAttributes = ["server", "model", ...Object.values(CONTEXT)];
  #client = null;
  #given = null;
  #texts = TEXTS;
  #result = null;
  #pending = null;
  #model = null;
  #fields = {};
  #shown = {};

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open", delegatesFocus: true });
    root.adoptedStyleSheets = [sheet];
    for (const name of [...Object.keys(CONTEXT), "response"]) {
      const input = element("textarea", { id: name, part: "input", dir: "auto", rows: name === "response" ? "5" : "2" });
      const label = element("label", { for: name, part: "label" });
      const field = element("div", { class: "field", part: "field" }, label, input);
      field.hidden = name !== "response";
      this.#fields[name] = { field, label, input };
    }
    // Regions are announced only where they were there before their text.
    const problem = element("p", { class: "problem", part: "problem", role: "alert" });
    const button = element("button", { type: "submit", part: "button" });
    const form = element("form", { part: "form", autocomplete: "off" });
    form.append(...Object.values(this.#fields).map(({ field }) => field), problem, button);
    const verdict = element("div", { role: "status", "aria-atomic": "true" });
    const details = element("div");
    const result = element("div", { class: "result", part: "result" }, verdict, details);
    root.append(form, result);
    this.#shown = { form, problem, button, verdict, details };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.score().catch(() => {}); // it is shown, and an event
    });
    form.addEventListener("input", () => this.#forget());
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
  }

  connectedCallback() {
    for (const name of ["client", "texts", "value"]) this.#upgrade(name);
    this.#write();
    this.#prepare().catch(() => {}); // it is tried again with the first score
  }

  disconnectedCallback() {
    this.#pending?.abort();
  }

  attributeChangedCallback(name) {
    if (name === "server" || name === "model") {
      this.#client = this.#given;
      this.#model = null;
      this.#forget();
      if (this.isConnected) this.#prepare().catch(() => {});
    } else {
      this.#arrange();
    }
  }

  /** The client that sends the requests; by default one for the attributes `server` and `model`, without a key. */
  get client() {
    this.#client ??= new Client(this.getAttribute("server") ?? location.origin, { model: this.getAttribute("model") ?? undefined });
    return this.#client;
  }

  set client(client) {
    this.#client = this.#given = client;
    this.#model = null;
    this.#forget();
    if (this.isConnected) this.#prepare().catch(() => {});
  }

  /** The texts of the element, by their keys in English; those that are not given stay as they are. */
  get texts() {
    return this.#texts;
  }

  set texts(texts) {
    this.#texts = { ...this.#texts, ...texts };
    this.#write();
    if (this.#result) this.#show(this.#result);
  }

  /** The text of the response. */
  get value() {
    return this.#fields.response.input.value;
  }

  set value(text) {
    this.#fields.response.input.value = text;
    this.#forget();
  }

  /** The last result; null before the first one. */
  get result() {
    return this.#result;
  }

  /** Score the response, show its score, and return the result; a call during another one replaces it. */
  async score() {
    this.#pending?.abort();
    const controller = (this.#pending = new AbortController());
    const { problem, button, form } = this.#shown;
    this.#forget();
    problem.textContent = "";
    button.textContent = this.#texts.scoring;
    form.setAttribute("aria-busy", "true");
    try {
      const { signal } = controller;
      const { inputs } = await this.#prepare(signal);
      const response = Object.fromEntries(inputs.map((name) => [name, this.#input(name)]));
      const result = await this.client.score(response, { signal });
      this.#result = result;
      this.#show(result);
      this.dispatchEvent(new CustomEvent("edgedistill-score", { detail: result, bubbles: true, composed: true }));
      return result;
    } catch (error) {
      if (!controller.signal.aborted) {
        problem.textContent = this.#message(error);
        this.dispatchEvent(new CustomEvent("edgedistill-error", { detail: error, bubbles: true, composed: true }));
      }
      throw error;
    } finally {
      if (this.#pending === controller) {
        this.#pending = null;
        form.removeAttribute("aria-busy");
        button.textContent = this.#texts.score;
      }
    }
  }

  /** Ask the server once for the model, and show the fields of its inputs. */
  async #prepare(signal) {
    if (this.#model) return this.#model;
    const { client } = this;
    const models = await client.models({ signal });
    if (client !== this.#client) return this.#prepare(signal);
    const named = models.find(({ name, version }) => client.model === name || client.model === `${name}@${version}`);
    this.#model = named ?? models[0] ?? { inputs: ["response"], labels: [] };
    this.#arrange();
    return this.#model;
  }

  #input(name) {
    const attribute = CONTEXT[name];
    return (attribute && this.getAttribute(attribute)) ?? this.#fields[name].input.value;
  }

  #arrange() {
    for (const [name, attribute] of Object.entries(CONTEXT)) {
      this.#fields[name].field.hidden = !this.#model?.inputs.includes(name) || this.hasAttribute(attribute);
    }
  }

  #write() {
    for (const [name, { label }] of Object.entries(this.#fields)) label.textContent = this.#texts[name];
    this.#shown.button.textContent = this.#texts.score;
  }

  #forget() {
    this.#result = null;
    this.#shown.verdict.replaceChildren();
    this.#shown.details.replaceChildren();
  }

  #show({ score }) {
    const texts = this.#texts;
    const language = this.closest("[lang]")?.lang || undefined;
    const labels = labelsOf(score);
    const kind = score.decision !== "accept" ? "review" : score.verdict === "validated" ? "accept" : "unvalidated";
    const reason = kind === "unvalidated" ? texts["not validated"] : score.reason ? (texts[score.reason] ?? score.reason) : "";
    const headline = element("p", {}, element("strong", {}, labels.join(", ") || texts.none), ` ${percent(score.probability, language)} `);
    headline.append(element("span", { class: `decision ${kind}`, part: `decision decision-${kind}` }, texts[kind]));
    this.#shown.verdict.replaceChildren(headline, ...(reason ? [element("p", { part: "reason" }, reason)] : []));
    const table = element("table", { part: "probabilities" }, element("caption", {}, texts.probabilities));
    const columns = [texts.label, texts.probability].map((text) => element("th", { scope: "col" }, text));
    const body = element("tbody");
    // In codebook order, which an object does not keep for labels such as "10" and "2".
    const names = this.#model?.labels.filter((label) => Object.hasOwn(score.probabilities, label)) ?? [];
    for (const label of names.length ? names : Object.keys(score.probabilities)) {
      const share = score.probabilities[label];
      const fill = element("div", { class: "fill" });
      fill.style.width = `${100 * share}%`;
      const bar = element("div", { class: "bar", part: "bar", "aria-hidden": "true" }, fill);
      body.append(element("tr", {}, element("th", { scope: "row" }, label), element("td", {}, percent(share, language), bar)));
    }
    table.append(element("thead", { class: "unseen" }, element("tr", {}, ...columns)), body);
    this.#shown.details.replaceChildren(table);
  }

  #message(error) {
    if (error instanceof Busy) return this.#texts.busy;
    if (error instanceof Unreachable) return this.#texts.unreachable;
    return error instanceof Refused ? this.#texts.refused : this.#texts.failed;
  }

  /** Properties that were set before the element was defined are set again, through their setters. */
  #upgrade(name) {
    if (!Object.hasOwn(this, name)) return;
    const value = this[name];
    delete this[name];
    this[name] = value;
  }
}

if (!customElements.get("edgedistill-score")) customElements.define("edgedistill-score", EdgedistillScore);
