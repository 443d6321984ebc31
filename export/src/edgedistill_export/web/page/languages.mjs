// The page in one of its languages: that of the address (page.html#de), else the browser's, else English.
import { at } from "./elements.mjs";
import { Language, say, speak } from "./language.mjs";
import { TEXTS as ARABIC } from "./texts/ar.mjs";
import { TEXTS as GERMAN } from "./texts/de.mjs";
import { TEXTS as OF_PAGE } from "./texts/en.mjs";
import { TEXTS as SPANISH } from "./texts/es.mjs";
import { ENGLISH as OF_WORDING } from "./wording.mjs";

const LANGUAGES = new Map([
  ["en", ["English", { ...OF_WORDING, ...OF_PAGE }]],
  ["es", ["Español", SPANISH]],
  ["de", ["Deutsch", GERMAN]],
  ["ar", ["العربية", ARABIC]],
]);
const listeners = [];

/** Call `render` now, and whenever another language is chosen. */
export function inEveryLanguage(render) {
  listeners.push(render);
  render();
}

/** Fill the chooser and show the page's fixed texts. */
export function startLanguages() {
  at("language").replaceChildren(...[...LANGUAGES].map(([code, [name]]) => new Option(name, code)));
  // In the address, so that a bookmark keeps the choice: the page stores nothing.
  at("language").addEventListener("change", () => location.replace(`#${at("language").value}`));
  addEventListener("hashchange", () => use(wanted()));
  use(wanted());
}

function wanted() {
  const codes = [location.hash.slice(1), ...navigator.languages].map((tag) => tag.split("-")[0]);
  return codes.find((code) => LANGUAGES.has(code)) ?? "en";
}

function use(code) {
  const language = new Language(code, LANGUAGES.get(code)[1]);
  speak(language);
  at("language").value = code;
  document.documentElement.lang = code;
  document.documentElement.dir = language.direction;
  for (const element of document.querySelectorAll("[data-say]")) element.textContent = say(element.dataset.say);
  for (const render of listeners) render();
}
