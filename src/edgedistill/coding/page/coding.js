// The coding page. What the program has not confirmed to be on the disk is never shown as saved.

const find = (id) => document.getElementById(id);
const VIEWS = ["enter", "work", "agreement", "adjudicate"];
const NONE = "none"; // the code of a response with several possible labels to which none applies
const NOTE_PAUSE = 300; // milliseconds after the last key before a note is saved
const TITLES = { question: "Question", reference_answer: "Reference answer", rubric: "Rubric", response: "Response" };

const page = {
  token: location.hash.slice(1) || sessionStorage.getItem("token") || "",
  coder: sessionStorage.getItem("coder") || "",
  isCoder: sessionStorage.getItem("role") !== "adjudicator",
  view: "enter",
  overview: null,
  rows: [],
  at: 0,
  disputes: [],
  dispute: 0,
  finalDraft: new Set(),
  failed: null, // the action that is not saved
};

class Problem extends Error {
  constructor(status, body) {
    super([body.detail, body.hint].filter(Boolean).map((text) => text.replace(/[.]?$/, ".")).join(" "));
    this.status = status;
    this.row = body.row;
  }
}

async function send(action, fields = {}) {
  let answer;
  try {
    answer = await fetch(`api/${action}`, {
      method: "POST",
      headers: { Authorization: `Bearer ${page.token}`, "Content-Type": "application/json" },
      body: JSON.stringify({ coder: page.coder, ...fields }),
    });
  } catch {
    throw new Problem(0, { detail: "the program does not answer", hint: "Start `edgedistill code` again and open its new link" });
  }
  const body = await answer.json().catch(() => ({ detail: `the program answered with status ${answer.status}` }));
  if (!answer.ok) throw new Problem(answer.status, body);
  return body;
}

// One action after another: a key that is pressed while the last code is written waits for it.
let queue = Promise.resolve();
let waiting = 0;
function enqueue(work) {
  waiting += 1;
  queue = queue.then(async () => {
    try {
      if (!page.failed) await work();
    } finally {
      waiting -= 1;
    }
  });
  return queue;
}
addEventListener("beforeunload", (event) => {
  const isUnsaved = page.disputes.some((row) => row.reason !== undefined && row.reason !== row.note);
  if (waiting || page.failed || noteTimer || isUnsaved) event.preventDefault();
});

// Send something to the program; where it is not saved, say so and offer to try again.
async function save(what, action, fields, then, isAgain = false) {
  chip("Saving…");
  try {
    const answer = await send(action, fields);
    hideProblem();
    await then(answer);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    chip("Not saved");
    if (error.status === 409) {
      if ("codes" in error.row) mergeDispute(error.row);
      else mergeRow(error.row);
      show();
      showProblem(error.message, null);
    } else {
      // A second failure has another text, so that a screen reader says it, too.
      const again = () => save(what, action, fields, then, true);
      showProblem(`${isAgain ? "Still not saved" : "Not saved"} (${what}): ${error.message}`, again);
    }
  }
}

function showProblem(text, again) {
  page.failed = again;
  find("trouble").hidden = false;
  find("problem").textContent = text;
  find("retry").hidden = !again;
  if (again) find("retry").focus();
}

function hideProblem() {
  page.failed = null;
  find("trouble").hidden = true;
  find("problem").textContent = "";
}

const say = (text) => { find("status").textContent = text; };
const chip = (text) => { find("saved").textContent = text; };

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Views

function go(view, focus = true) {
  page.view = view;
  for (const each of VIEWS) find(each).hidden = each !== view;
  find("codebook").hidden = view === "enter";
  find("views").hidden = view === "enter";
  find("to-code").hidden = !page.isCoder;
  for (const [id, name] of [["to-code", "work"], ["to-agreement", "agreement"], ["to-adjudicate", "adjudicate"]]) {
    if (name === view) find(id).setAttribute("aria-current", "page");
    else find(id).removeAttribute("aria-current");
  }
  show();
  if (focus) find({ enter: "enter-heading", work: "row-heading", agreement: "agreement-heading", adjudicate: "dispute-heading" }[view]).focus();
}

function show() {
  const { overview } = page;
  if (!overview) return;
  document.title = `EdgeDistill: coding ${overview.project}`;
  const totals = overview.totals;
  find("where").textContent = page.view === "enter" || !page.coder
    ? `${overview.project}, ${overview.file}`
    : `${overview.project}, ${overview.file} · ${page.coder}`;
  find("totals").textContent = `${totals.finished} of ${totals.rows} rows are finished, ${totals.adjudicated} of them after adjudication.`;
  find("write").hidden = page.view === "enter";
  showCodebook();
  if (page.view === "enter") showEnter();
  if (page.view === "work") showRow();
  if (page.view === "adjudicate") showDispute();
}

function showEnter() {
  const items = page.overview.coders.map(({ name, rows, coded }) => {
    const item = element("li");
    const button = element("button", `${name} (${coded} of ${rows} coded)`, { type: "button" });
    button.addEventListener("click", () => enter(name));
    item.append(button);
    if (rows > coded) {
      const hand = element("button", "Give the open rows to the others", { type: "button", "aria-label": `Give the open rows of ${name} to the others` });
      hand.addEventListener("click", () => enqueue(() => save(`rows of ${name}`, "leave", { coder: name }, (answer) => {
        page.overview = answer;
        say(`${name} codes no more rows.`);
        show();
      })));
      item.append(hand);
    }
    return item;
  });
  find("names").replaceChildren(...items);
}

function showCodebook() {
  const { labels, memos, instructions, notices } = page.overview;
  find("instructions").textContent = instructions;
  find("notices").replaceChildren(...notices.map((text) => element("li", text)));
  const of = (label) => memos.filter((memo) => memo.label === label).map((memo) => {
    const made = element("p", memo.text, { class: "memo" });
    made.append(element("small", `${memo.by}, ${memo.time.slice(0, 10)}`));
    return made;
  });
  const parts = labels.flatMap(({ name, definition }) => {
    const dd = element("dd", definition);
    dd.append(...of(name));
    return [element("dt", name), dd];
  });
  const general = of("");
  if (general.length) {
    const dd = element("dd");
    dd.append(...general);
    parts.push(element("dt", "All labels"), dd);
  }
  find("definitions").replaceChildren(...parts);
  const select = find("memo-label");
  if (select.options.length !== labels.length + 1) {
    select.replaceChildren(...labels.map(({ name }) => element("option", `About ${name}`, { value: name })), element("option", "About the codebook", { value: "" }));
  }
}

const isMany = () => page.overview.kind === "multilabel";
const named = (code) => (code && code !== NONE ? code.split(";") : []);

function inputs(texts) {
  const names = page.overview.inputs;
  return names.flatMap((name) => {
    const text = element("p", texts[name], name === "response" ? { class: "answer-text" } : {});
    if (name === "response") text.id = page.view === "work" ? "text" : "dispute-text";
    return names.length > 1 ? [element("h3", TITLES[name]), text] : [text];
  });
}

function labelButtons(selected, isNone, isClosed, choose) {
  const buttons = page.overview.labels.map(({ name }, place) => {
    const pressed = selected.includes(name);
    const button = element("button", undefined, { type: "button", "aria-pressed": pressed });
    if (place < 9) {
      button.setAttribute("aria-keyshortcuts", String(place + 1));
      button.append(element("kbd", String(place + 1), { "aria-hidden": "true" }));
    }
    button.append(element("span", name));
    button.addEventListener("click", () => choose(name));
    return button;
  });
  if (isMany()) {
    const button = element("button", undefined, { type: "button", "aria-pressed": isNone, "aria-keyshortcuts": "0" });
    button.append(element("kbd", "0", { "aria-hidden": "true" }), element("span", "no label applies"));
    button.addEventListener("click", () => choose(NONE));
    buttons.push(button);
  }
  for (const button of buttons) button.disabled = isClosed;
  return buttons;
}

// Replace the buttons, and keep the focus where it was.
function replaceButtons(box, buttons) {
  const place = [...box.children].indexOf(document.activeElement);
  box.replaceChildren(...buttons);
  if (place >= 0) buttons[place]?.focus();
}

function showRow() {
  const { rows } = page;
  const row = rows[page.at];
  const coded = rows.filter((each) => each.code).length;
  find("progress").max = Math.max(1, rows.length);
  find("progress").value = coded;
  for (const id of ["inputs", "labels", "note", "confirm", "back", "forward", "skip", "flag"]) find(id).hidden = !row;
  find("confirm").hidden = !row || !isMany();
  find("help-many").hidden = !isMany();
  if (!row) {
    find("row-heading").textContent = "There are no rows for you to code.";
    return;
  }
  find("row-heading").textContent = `Row ${page.at + 1} of ${rows.length}`;
  if (find("inputs").dataset.id !== row.id) {
    find("inputs").dataset.id = row.id;
    find("inputs").replaceChildren(...inputs(row.inputs));
    find("note").value = row.note;
  }
  const drafted = row.draft || row.code;
  replaceButtons(find("labels"), labelButtons(isMany() ? named(drafted) : [row.code], drafted === NONE, row.closed, choose));
  find("confirm").disabled = row.closed || !drafted || (Boolean(row.code) && !row.draft);
  find("flag").setAttribute("aria-pressed", row.flagged);
  find("flag").disabled = find("skip").disabled = row.closed;
  const open = rows.length - coded;
  const state = [
    row.closed ? "In adjudication: the code does not change any more." : row.code ? `Coded: ${shownCode(row.code)}.` : row.skipped ? "Skipped." : "",
    open ? `${open} of your rows are open.` : "All your rows are coded. You may look through them; then adjudicate.",
  ];
  find("row-state").textContent = state.filter(Boolean).join(" ");
  chip(row.code ? "Saved" : row.draft ? "Saved, not confirmed" : "");
}

const shownCode = (code) => (code === NONE ? "no label applies" : code.replaceAll(";", ", "));

function mergeRow(changed) {
  const place = page.rows.findIndex((row) => row.id === changed.id);
  if (place < 0) return;
  page.rows[place] = { ...page.rows[place], ...changed };
  if (find("inputs").dataset.id === changed.id && document.activeElement !== find("note")) find("note").value = changed.note;
}

// What was saved, and memos that others have written since.
async function saved(answer) {
  if (answer.row) mergeRow(answer.row);
  if (answer.memos > page.overview.memos.length) {
    page.overview = await send("overview");
    say("There is a new memo in the codebook.");
  }
}

function nextOpen() {
  const places = page.rows.map((_, step) => (page.at + 1 + step) % page.rows.length);
  return places.find((place) => !page.rows[place].code && !page.rows[place].skipped)
    ?? places.filter((place) => !page.rows[place].code).sort((a, b) => page.rows[a].skipped - page.rows[b].skipped)[0]
    ?? Math.min(page.at + 1, page.rows.length - 1);
}

function move(place) {
  if (!page.rows.length) return;
  saveNote();
  page.at = Math.max(0, Math.min(place, page.rows.length - 1));
  show();
  find("row-heading").focus();
}

// Actions on a row

function toggled(code, name) {
  if (name === NONE) return code === NONE ? "" : NONE;
  const names = new Set(named(code));
  if (!names.delete(name)) names.add(name);
  return page.overview.labels.map((label) => label.name).filter((each) => names.has(each)).join(";");
}

const choose = (name) => enqueue(async () => {
  const row = page.rows[page.at];
  if (!row || row.closed) return;
  if (isMany()) {
    const code = toggled(row.draft || row.code, name);
    await save(shownCode(code) || "no labels", "draft", { id: row.id, code, seen: row.revision }, async (answer) => {
      await saved(answer);
      say(code ? `Selected: ${shownCode(code)}` : "Nothing selected");
      show();
    });
  } else {
    await give(row, name);
  }
});

const confirmRow = () => enqueue(async () => {
  const row = page.rows[page.at];
  if (row && !row.closed && row.draft) await give(row, row.draft);
});

const give = (row, code) => save(shownCode(code), "code", { id: row.id, code, seen: row.revision }, async (answer) => {
  await saved(answer);
  const isLast = page.rows.every((each) => each.code);
  page.at = nextOpen();
  show();
  say(`Saved: ${shownCode(code)}. ${isLast ? "All your rows are coded." : `Row ${page.at + 1} of ${page.rows.length}.`}`);
  find("row-heading").focus();
});

const skip = () => enqueue(async () => {
  const row = page.rows[page.at];
  if (!row || row.closed) return;
  await save("skip", "skip", { id: row.id, seen: row.revision }, async (answer) => {
    await saved(answer);
    page.at = nextOpen();
    show();
    say("Skipped.");
    find("row-heading").focus();
  });
});

const flag = () => enqueue(async () => {
  const row = page.rows[page.at];
  if (!row || row.closed) return;
  await save("flag", "flag", { id: row.id, on: !row.flagged, seen: row.revision }, async (answer) => {
    await saved(answer);
    show();
    say(answer.row.flagged ? "Flagged for discussion." : "No longer flagged.");
  });
});

const undo = () => enqueue(() => save("undo", "undo", {}, async (answer) => {
  if (!answer.row) {
    show();
    say("There is nothing to undo.");
    return;
  }
  await saved(answer);
  const place = page.rows.findIndex((row) => row.id === answer.row.id);
  if (place >= 0) page.at = place;
  show();
  say(`Undone. ${answer.row.code ? `The code is ${shownCode(answer.row.code)} again.` : "The row has no code."}`);
  find("row-heading").focus();
}));

let noteTimer = 0;
let noteRow = "";
function saveNote() {
  if (!noteTimer) return;
  clearTimeout(noteTimer);
  noteTimer = 0;
  const id = noteRow;
  const text = find("note").value;
  enqueue(async () => {
    const row = page.rows.find((each) => each.id === id);
    if (!row || row.note === text) return;
    await save("note", "note", { id, text, seen: row.revision }, async (answer) => {
      await saved(answer);
      show();
      chip("Note saved");
    });
  });
}
find("note").addEventListener("input", () => {
  clearTimeout(noteTimer);
  noteRow = page.rows[page.at].id;
  chip("");
  noteTimer = setTimeout(saveNote, NOTE_PAUSE);
});
find("note").addEventListener("blur", saveNote);

// Entering

async function load() {
  const answer = await send("work");
  page.overview = answer.overview;
  page.rows = answer.rows;
}

const enter = (name) => enqueue(() => save("your name", "enter", { coder: name }, (answer) => {
  page.coder = name;
  page.isCoder = true;
  sessionStorage.setItem("coder", name);
  sessionStorage.setItem("role", "coder");
  page.overview = answer.overview;
  page.rows = answer.rows;
  page.at = -1;
  page.at = page.rows.length ? Math.max(0, nextOpen()) : 0;
  find("inputs").dataset.id = "";
  go("work");
}));

function enterAsAdjudicator(name) {
  page.coder = name;
  page.isCoder = false;
  sessionStorage.setItem("coder", name);
  sessionStorage.setItem("role", "adjudicator");
  openAdjudication();
}

find("add").addEventListener("submit", (event) => {
  event.preventDefault();
  if (find("name").value.trim()) enter(find("name").value.trim());
  else find("name").focus();
});
find("only-adjudicate").addEventListener("click", () => {
  if (find("name").value.trim()) enterAsAdjudicator(find("name").value.trim());
  else find("name").focus();
});

// Agreement

const interval = (it) => (it ? `${it.value.toFixed(2)} (${it.low.toFixed(2)} to ${it.high.toFixed(2)})` : "undefined");

const openAgreement = () => enqueue(() => save("agreement", "agreement", {}, (found) => {
  const few = found.rows < found.needed;
  find("agreement-text").textContent = few
    ? `${found.rows} rows are coded by two coders. Agreement is shown from ${found.needed} on.`
    : `Computed from ${found.rows} rows coded by two coders, and again after 5 more.${found.alpha === null ? "" : ` Krippendorff's alpha of all coders: ${found.alpha.toFixed(2)}.`}`;
  find("agreement-messages").replaceChildren(...found.messages.map((text) => element("li", text)));
  find("pairs").hidden = !found.pairs.length;
  find("kappa-name").textContent = found.pairs[0]?.name ?? "κ";
  find("pair-rows").replaceChildren(...found.pairs.map((pair) => {
    const line = element("tr");
    line.append(element("th", `${pair.first}, ${pair.second}`, { scope: "row" }), element("td", pair.rows), element("td", interval(pair.kappa)), element("td", interval(pair.equal)));
    return line;
  }));
  go("agreement");
}));

// Adjudication

const openAdjudication = () => enqueue(() => save("adjudication", "overview", {}, (overview) => {
  page.overview = overview;
  page.disputes = [];
  page.isRevealed = false;
  page.dispute = 0;
  go("adjudicate");
}));

const reveal = () => enqueue(() => save("adjudication", "adjudicate", {}, (answer) => {
  page.overview = answer.overview;
  page.disputes = answer.rows;
  page.isRevealed = true;
  showAt(0);
}));

function mergeDispute(changed) {
  page.disputes = page.disputes.map((row) => (row.id === changed.id ? changed : row));
}

function showAt(place) {
  page.dispute = Math.max(0, Math.min(place, page.disputes.length - 1));
  const row = page.disputes[page.dispute];
  page.finalDraft = new Set(named(row?.label ?? ""));
  find("reason").value = row?.reason ?? row?.note ?? "";
  show();
  find("dispute-heading").focus();
}

function showDispute() {
  const { totals } = page.overview;
  const row = page.disputes[page.dispute];
  find("gate").hidden = Boolean(row);
  find("dispute").hidden = !row;
  if (!row) {
    find("dispute-heading").textContent = "Adjudication";
    // How many rows these are is not said before: a coder could find another's code by it.
    const waiting = totals.rows - totals.finished;
    const unfinished = waiting ? ` ${waiting} rows are not finished yet${page.isRevealed ? "." : ": who still codes should not adjudicate now."}` : "";
    find("gate-text").textContent = page.isRevealed
      ? `There is nothing to adjudicate: no finished row has different codes or a flag.${unfinished}`
      : `The finished rows with different codes or a flag are shown to you with all their codes, which then do not change any more.${unfinished}`;
    find("reveal").hidden = page.isRevealed;
    return;
  }
  const decided = page.disputes.filter((each) => each.label).length;
  find("dispute-heading").textContent = `Disagreement ${page.dispute + 1} of ${page.disputes.length}`;
  find("dispute-inputs").replaceChildren(...inputs(row.inputs));
  find("dispute-codes").replaceChildren(...row.codes.map((each) => {
    const line = element("tr");
    line.append(element("th", each.coder, { scope: "row" }), element("td", `${shownCode(each.code)}${each.flagged ? " (flagged)" : ""}`), element("td", each.note));
    return line;
  }));
  const draft = isMany() ? [...page.finalDraft] : [row.label];
  replaceButtons(find("final-labels"), labelButtons(draft, page.finalDraft.has(NONE) || (row.label === NONE && !page.finalDraft.size), false, decide));
  find("final-confirm").hidden = !isMany();
  find("dispute-state").textContent = `${row.label ? `Final label: ${shownCode(row.label)}${row.by ? `, by ${row.by}` : ""}. ` : ""}${decided} of ${page.disputes.length} decided.`;
}

const decide = (name) => {
  if (!isMany()) return finish(name);
  if (name === NONE) page.finalDraft = new Set(page.finalDraft.has(NONE) ? [] : [NONE]);
  else {
    page.finalDraft.delete(NONE);
    if (!page.finalDraft.delete(name)) page.finalDraft.add(name);
  }
  return show();
};

const finish = (label) => enqueue(async () => {
  const row = page.disputes[page.dispute];
  if (!row || !label) return;
  await save(shownCode(label), "final", { id: row.id, code: label, text: find("reason").value, seen: row.revision }, (answer) => {
    mergeDispute(answer.row);
    const open = page.disputes.findIndex((each) => !each.label);
    say(`Saved: ${shownCode(label)}. ${open < 0 ? "All disagreements are decided." : ""}`);
    showAt(open < 0 ? page.dispute : open);
  });
});

// A reason is saved with its label: at once where there is one, else when the label is chosen.
find("reason").addEventListener("input", () => { page.disputes[page.dispute].reason = find("reason").value; });
find("reason").addEventListener("blur", () => {
  const { id } = page.disputes[page.dispute] ?? {};
  enqueue(async () => {
    const row = page.disputes.find((each) => each.id === id);
    if (!row?.label || row.reason === undefined || row.reason === row.note) return;
    await save("reason", "final", { id, code: row.label, text: row.reason, seen: row.revision }, (answer) => {
      mergeDispute(answer.row);
      say("The reason is saved.");
      chip("");
    });
  });
});

const finishMany = () => finish(page.overview.labels.map((label) => label.name).filter((name) => page.finalDraft.has(name)).join(";") || (page.finalDraft.has(NONE) ? NONE : ""));

// Buttons and keys

const click = (id, act) => find(id).addEventListener("click", act);
click("to-code", () => enqueue(() => save("rows", "work", {}, (answer) => {
  page.overview = answer.overview;
  page.rows = answer.rows;
  go("work");
})));
click("to-agreement", openAgreement);
click("to-adjudicate", openAdjudication);
click("to-enter", () => enqueue(() => save("names", "overview", {}, (overview) => {
  page.overview = overview;
  go("enter");
})));
click("confirm", confirmRow);
click("back", () => move(page.at - 1));
click("forward", () => move(page.at + 1));
click("undo", undo);
click("skip", skip);
click("flag", flag);
click("reveal", reveal);
click("final-confirm", finishMany);
click("dispute-back", () => showAt(page.dispute - 1));
click("dispute-forward", () => showAt(page.dispute + 1));
click("retry", () => {
  const again = page.failed;
  page.failed = null;
  if (again) enqueue(again);
});
click("dismiss", () => {
  hideProblem();
  show();
});
click("write", () => enqueue(() => save("table", "write", {}, (answer) => {
  page.overview = answer.overview;
  show();
  say(`The table is written.${answer.by_hand ? ` ${answer.by_hand} cells were changed by hand meanwhile and left as they are.` : ""}`);
  chip("Table written");
})));
find("memo").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = find("memo-text").value;
  if (!text.trim()) {
    find("memo-text").focus();
    return;
  }
  enqueue(() => save("memo", "memo", { label: find("memo-label").value, text }, (overview) => {
    page.overview = overview;
    find("memo-text").value = "";
    show();
    say("The memo is saved; all coders see it.");
  }));
});

find("keys").checked = localStorage.getItem("keys") !== "off";
find("keys").addEventListener("change", () => localStorage.setItem("keys", find("keys").checked ? "on" : "off"));

const isTyping = (target) => target.matches("input:not([type=checkbox]), textarea, select");

function moveThroughLabels(step) {
  const buttons = [...find(page.view === "work" ? "labels" : "final-labels").children];
  const place = buttons.indexOf(document.activeElement);
  buttons[(place < 0 ? (step > 0 ? 0 : buttons.length - 1) : place + step + buttons.length) % buttons.length]?.focus();
}

const WORK_KEYS = {
  u: undo,
  s: skip,
  f: flag,
  n: () => find("note").focus(),
  ArrowLeft: () => move(page.at - 1),
  ArrowRight: () => move(page.at + 1),
};
const DISPUTE_KEYS = { ArrowLeft: () => showAt(page.dispute - 1), ArrowRight: () => showAt(page.dispute + 1), n: () => find("reason").focus() };

addEventListener("keydown", (event) => {
  const isWork = page.view === "work";
  if (event.key === "Escape" && isTyping(event.target)) {
    find(isWork ? "row-heading" : "dispute-heading").focus();
    return;
  }
  if (isWork && (event.ctrlKey || event.metaKey) && event.key === "z" && !isTyping(event.target)) {
    event.preventDefault();
    if (!event.repeat) undo();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || !find("keys").checked) return;
  if (!isWork && !(page.view === "adjudicate" && page.disputes.length)) return;
  if (page.failed) return; // Enter and space work on the buttons of the message
  const act = keyAction(event, isWork);
  if (!act) return;
  event.preventDefault();
  if (!event.repeat || event.key.startsWith("Arrow")) act(); // a key that is held down codes one row
});

function keyAction(event, isWork) {
  const { key } = event;
  if (key === "ArrowDown" || key === "ArrowUp") return () => moveThroughLabels(key === "ArrowDown" ? 1 : -1);
  if (key === "Enter" && isMany() && !event.target.matches("button, summary, a")) return isWork ? confirmRow : finishMany;
  if (/^[0-9]$/.test(key)) {
    const name = key === "0" ? isMany() && NONE : page.overview.labels[Number(key) - 1]?.name;
    return name ? () => (isWork ? choose(name) : decide(name)) : null;
  }
  return (isWork ? WORK_KEYS : DISPUTE_KEYS)[key] ?? null;
}

// Start, a new link of a program that was started again, and a tab that comes back to the front

async function start() {
  sessionStorage.setItem("token", page.token);
  if (location.hash) history.replaceState(null, "", location.pathname);
  try {
    page.overview = await send("overview");
  } catch (error) {
    find("where").textContent = "";
    showProblem(error.message, () => start());
    return;
  }
  hideProblem();
  const isKnown = page.overview.coders.some(({ name }) => name === page.coder);
  if (page.coder && page.isCoder && isKnown) await enter(page.coder);
  else go("enter");
}

addEventListener("hashchange", () => {
  if (location.hash.length < 2) return;
  page.token = location.hash.slice(1);
  sessionStorage.setItem("token", page.token);
  history.replaceState(null, "", location.pathname);
  const again = page.failed;
  page.failed = null;
  if (again) enqueue(again);
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden || page.view !== "work" || noteTimer) return;
  enqueue(async () => {
    const id = page.rows[page.at]?.id;
    try {
      await load();
    } catch {
      return; // the next action says so
    }
    page.at = Math.max(0, page.rows.findIndex((row) => row.id === id));
    show();
  });
});

start();
