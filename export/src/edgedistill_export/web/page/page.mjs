// The page: starts the worker, shows the loading progress, then the form, the codebook and the file panel.
import { at } from "./elements.mjs";
import { Engine } from "./engine.mjs";
import { said } from "./faults.mjs";
import { embedder } from "./frames.mjs";
import { say } from "./language.mjs";
import { inEveryLanguage, startLanguages } from "./languages.mjs";
import { startLesson } from "./lms.mjs";
import { keepOffline } from "./offline.mjs";
import { showCodebook, showForm } from "./single.mjs";
import { showTable } from "./table.mjs";
import { contextsNote, noveltyNote, percent, promiseNote, verdictNote } from "./wording.mjs";

let page;

/** Some other site shows the page, and may not. */
class Embedded extends Error {
  constructor(origin) {
    super("embedded");
    this.origin = origin;
  }
}

function onMessage(message) {
  if (message.event === "page") introduce(message.page);
  if (message.event === "reading") {
    stage(say("stage_reading", { size: sizeText(message.file.bytes), file: say(`file_${message.name}`) }));
  }
  if (message.event === "starting") stage(say("stage_starting"));
  if (message.event === "checking") stage(say("stage_checking"), message.done, message.rows);
}

function introduce(found) {
  page = found;
  at("name").removeAttribute("data-say");
  at("name").textContent = page.name;
  inEveryLanguage(() => {
    document.title = say("title", { name: page.name });
    at("validation").textContent = verdictNote(page);
    showCodebook(page);
  });
}

function stage(text, done, of) {
  if (at("stage").textContent !== text) at("stage").textContent = text;
  if (of) at("stage-progress").max = of;
  if (of) at("stage-progress").value = done;
}

function sizeText(bytes) {
  return bytes < 1e6 ? say("kilobytes", { size: Math.ceil(bytes / 1e3) }) : say("megabytes", { size: Math.round(bytes / 1e6) });
}

function facts({ difference, rows, tolerance }) {
  const { name, version, precision, max_tokens: tokens } = page;
  const checked = { rows, difference: difference.toPrecision(2), tolerance: String(tolerance) };
  const notes = [contextsNote(page), noveltyNote(page), promise()];
  return [say("facts", { name, version, precision, tokens, ...checked }), ...notes].join(" ");
}

function faultText(error) {
  if (error instanceof Embedded) return say("embedded", { origin: error.origin || say("other_site") });
  return error.kind === "drift" ? `${said(error)} ${say("disabled")}` : said(error);
}

/** What is promised; the whole of it, with the evidence, in English only. */
function promise() {
  if (document.documentElement.lang === "en") return promiseNote(page);
  if (!page.promised) return say("promised_nothing");
  return say("promised", { share: percent(page.promised.share), confidence: percent(page.promised.confidence) });
}

async function start() {
  if (document.documentElement.dataset.refused) return;
  document.documentElement.dataset.started = "true";
  startLanguages();
  at("starting").hidden = false;
  try {
    const engine = new Engine(onMessage);
    const checked = await engine.load();
    const origin = embedder(page.embedders);
    if (origin !== null) throw new Embedded(origin);
    const lesson = startLesson();
    showForm(engine, page, lesson);
    showTable(engine, page, lesson);
    inEveryLanguage(() => (at("facts").textContent = facts(checked)));
    document.querySelector("main").hidden = false;
  } catch (error) {
    inEveryLanguage(() => (at("fault").textContent = faultText(error)));
  } finally {
    at("starting").hidden = true;
  }
  await keepOffline();
}

// In a page of one file, its parts come after this script.
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
