// The page: starts the worker, shows the loading progress, then the form, the codebook and the file panel.
import { at } from "./elements.mjs";
import { Engine } from "./engine.mjs";
import { keepOffline } from "./offline.mjs";
import { showCodebook, showForm } from "./single.mjs";
import { showTable } from "./table.mjs";
import { contextsNote, noveltyNote, promiseNote } from "./wording.mjs";

let page;

function onMessage(message) {
  if (message.event === "page") introduce(message.page);
  if (message.event === "reading") stage(`Reading ${megabytes(message.file.bytes)} of ${message.file.what}…`);
  if (message.event === "starting") stage("Starting the model…");
  if (message.event === "checking") {
    stage("Checking that the model gives the same scores in this browser…", message.done, message.rows);
  }
}

function introduce(found) {
  page = found;
  document.title = `${page.name}: score responses`;
  at("name").textContent = page.name;
  showCodebook(page);
}

function stage(text, done, of) {
  if (at("stage").textContent !== text) at("stage").textContent = text;
  if (of) at("stage-progress").max = of;
  if (of) at("stage-progress").value = done;
}

function megabytes(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${Math.round(bytes / 1e6)} MB`;
}

async function start() {
  at("unopened").hidden = true;
  at("starting").hidden = false;
  const engine = new Engine(onMessage);
  try {
    const { difference, rows, tolerance } = await engine.load();
    showForm(engine, page);
    showTable(engine, page);
    document.querySelector("main").hidden = false;
    at("facts").textContent =
      `${page.name}, version ${page.version}, ${page.precision}; reads at most ${page.max_tokens} tokens. ` +
      `Self-check with ${rows} responses: probabilities differ by at most ${difference.toPrecision(2)} ` +
      `(tolerance: ${tolerance}). ${contextsNote(page)} ${noveltyNote(page)} ${promiseNote(page)}`;
  } catch (error) {
    at("fault").textContent = error.kind === "drift" ? `${error.message} Scoring is disabled in this browser.` : error.message;
  } finally {
    at("starting").hidden = true;
  }
  await keepOffline();
}

start();
