// The API documentation: shows openapi.json of this server, and sends requests to it and to no other.

const at = (id) => document.getElementById(id);
const SHOWN_HEADERS = ["content-type", "x-request-id", "x-model", "retry-after", "server-timing", "www-authenticate"];
const LINES = "application/x-ndjson";
/** The served models, for examples and paths; empty until the server says so. */
let served = [];

/** An element with attributes and content; texts are never markup. */
function element(tag, attributes = {}, ...content) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...content);
  return made;
}

/** A text in which `code` is marked as in Markdown. */
function marked(text) {
  return text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

/** The type of a schema in words, with links to the types of the document. */
function typeOf(schema) {
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return [element("a", { href: `#type-${name}` }, name)];
  }
  const choices = schema.oneOf ?? schema.anyOf;
  if (choices) return choices.flatMap((choice, index) => (index ? [" or ", ...typeOf(choice)] : typeOf(choice)));
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" or ")];
  if (schema.type === "array") return schema.items ? ["list of ", ...typeOf(schema.items)] : ["list"];
  if (schema.type === "object" && schema.additionalProperties) return ["object of ", ...typeOf(schema.additionalProperties)];
  if (Array.isArray(schema.type)) return [schema.type.join(" or ")];
  return [schema.type ?? "any value"];
}

/** A table whose rows begin with a name. */
function table(caption, columns, rows) {
  const head = element("tr", {}, ...columns.map((column) => element("th", { scope: "col" }, column)));
  const body = rows.map(([name, ...cells]) =>
    element("tr", {}, element("th", { scope: "row", class: "code" }, name), ...cells.map((cell) => element("td", {}, ...cell))),
  );
  const shown = element("table", { class: "rows" }, element("caption", { class: "unseen" }, caption));
  shown.append(element("thead", { class: "unseen" }, head), element("tbody", {}, ...body));
  return shown;
}

function pretty(value) {
  return JSON.stringify(value, null, 2);
}

/** The media type of a content, its schema, and its examples. */
function contentOf(content) {
  const [[media, { schema, examples = {} }]] = Object.entries(content);
  return { media, schema, examples: Object.values(examples) };
}

/** A part of an operation that is closed at first. */
function part(heading, ...content) {
  return element("details", { class: "part" }, element("summary", {}, heading), element("div", { class: "body" }, ...content));
}

function showContent(heading, content, description = "") {
  const { media, schema, examples } = contentOf(content);
  const shown = element("div", { class: "field" });
  if (description) shown.append(element("p", {}, ...marked(description)));
  shown.append(element("p", {}, element("code", {}, media), media === LINES ? ", each line: " : ": ", ...typeOf(schema)));
  for (const { summary, value } of examples) {
    const text = typeof value === "string" && media !== LINES ? value : pretty(value);
    shown.append(element("p", { class: "hint" }, summary), element("pre", { tabindex: "0" }, text));
  }
  return part(heading, shown);
}

function showErrors(responses) {
  const rows = Object.entries(responses)
    .filter(([status]) => status !== "200")
    .map(([status, { description, content }]) => {
      const { examples } = contentOf(content);
      const details = examples.map(({ value }) => element("div", { class: "code" }, value.detail ?? value.error));
      return [status, marked(description), details];
    });
  return part("Errors", table("Errors", ["Status", "When", "Example of its text"], rows));
}

/** The example of a body as a text to edit, with the name of a model that is served. */
function bodyText({ media, examples }, index) {
  if (media === LINES) return examples.map(({ value }) => JSON.stringify(value)).join("\n");
  const value = structuredClone(examples[index].value);
  if (value.model && served.length && !served.some(({ model }) => model === value.model)) value.model = served[0].model;
  return pretty(value);
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** A form that sends a request of an operation, and shows the answer. */
function tryForm(path, method, described) {
  const prefix = described.operationId;
  const form = element("form", { class: "try", "aria-label": `Try ${method.toUpperCase()} ${path}`, autocomplete: "off" });
  form.append(element("h3", {}, "Try it"));
  const fields = new Map();
  for (const { name, in: place, required, example } of described.parameters) {
    const id = `${prefix}-${name}`;
    const input = element("input", { id, spellcheck: "false" });
    input.value = required ? (served[0]?.[name] ?? example) : "";
    fields.set(name, { input, place });
    form.append(element("div", { class: "field" }, element("label", { for: id }, required ? name : `${name} (optional)`), input));
  }
  let body = null;
  if (described.requestBody) {
    const content = contentOf(described.requestBody.content);
    body = element("textarea", { id: `${prefix}-body`, class: "code", spellcheck: "false" });
    body.value = bodyText(content, 0);
    if (content.examples.length > 1 && content.media !== LINES) {
      const choice = element("select", { id: `${prefix}-example` });
      choice.append(...content.examples.map(({ summary }, index) => new Option(summary, String(index))));
      choice.addEventListener("change", () => {
        body.value = bodyText(content, Number(choice.value));
        showCommand();
      });
      form.append(element("div", { class: "field" }, element("label", { for: choice.id }, "Example"), choice));
    }
    form.append(element("div", { class: "field" }, element("label", { for: body.id }, "Body"), body));
    body.dataset.media = content.media;
  }
  const command = element("pre", { tabindex: "0" });
  const button = element("button", { class: "primary", type: "submit" }, "Send");
  const answer = element("div", { class: "field", role: "status" });
  form.append(element("p", { class: "hint" }, "The same at the command line:"), command);
  form.append(element("div", { class: "actions" }, button), answer);

  function address() {
    let relative = path.slice(1);
    const query = new URLSearchParams();
    for (const [name, { input, place }] of fields) {
      if (place === "path") relative = relative.replace(`{${name}}`, encodeURIComponent(input.value));
      else if (input.value) query.set(name, input.value);
    }
    return query.size ? `${relative}?${query}` : relative;
  }

  function showCommand() {
    const parts = ["curl"];
    if (at("key").value) parts.push('-H "Authorization: Bearer $KEY"');
    if (body) parts.push(`-H 'Content-Type: ${body.dataset.media}'`, `--data-binary ${quoted(body.value)}`);
    command.textContent = [...parts, quoted(new URL(address(), document.baseURI).href)].join(" ");
  }

  let pending = null;
  form.addEventListener("input", showCommand);
  at("key").addEventListener("input", showCommand);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    pending?.abort();
    const controller = (pending = new AbortController());
    form.setAttribute("aria-busy", "true");
    answer.replaceChildren("Sending…");
    const shown = await send(address(), method, body, controller.signal);
    if (pending !== controller) return;
    form.removeAttribute("aria-busy");
    answer.replaceChildren(...shown);
  });
  showCommand();
  return form;
}

/** Send a request, and return what is shown of its answer. */
async function send(address, method, body, signal) {
  const headers = {};
  if (at("key").value) headers.Authorization = `Bearer ${at("key").value}`;
  if (body) headers["Content-Type"] = body.dataset.media;
  const started = performance.now();
  try {
    const answer = await fetch(address, {
      method: method.toUpperCase(),
      headers,
      body: body ? body.value : undefined,
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
      signal,
    });
    const text = await answer.text();
    const milliseconds = Math.round(performance.now() - started);
    const rows = SHOWN_HEADERS.filter((name) => answer.headers.has(name)).map((name) => [name, [answer.headers.get(name)]]);
    return [
      element("p", {}, element("strong", {}, `${answer.status} ${answer.statusText}`.trim()), `, ${milliseconds} ms`),
      table("Headers", ["Header", "Value"], rows),
      element("pre", { tabindex: "0" }, indented(text)),
    ];
  } catch (error) {
    if (error.name === "AbortError") return [];
    return [element("p", { class: "problem" }, "The server cannot be reached, or the key has characters that a header cannot have.")];
  }
}

function indented(text) {
  try {
    return pretty(JSON.parse(text));
  } catch {
    return text;
  }
}

function showOperation(path, method, described) {
  const name = element("span", {}, element("code", { class: "method" }, method.toUpperCase()), " ", element("code", {}, path));
  const details = element("details", { class: "card", id: described.operationId });
  details.append(element("summary", {}, name, element("span", { class: "hint" }, described.summary)));
  const body = element("div", { class: "body" });
  details.append(body);
  // Filled when it is first opened, so that a page of many examples is light.
  details.addEventListener("toggle", () => {
    if (!details.open || body.childElementCount) return;
    if (described.description) body.append(element("p", {}, ...marked(described.description)));
    if (described.security.length === 0) body.append(element("p", { class: "hint" }, "Needs no key."));
    if (described.parameters.length) {
      const rows = described.parameters.map((each) => [each.name, [`in the ${each.in}${each.required ? "" : ", optional"}`], marked(each.description)]);
      body.append(table("Parameters", ["Name", "Place", "Meaning"], rows));
    }
    if (described.requestBody) body.append(showContent("Request", described.requestBody.content));
    const success = described.responses["200"];
    body.append(showContent("Answer", success.content, success.description), showErrors(described.responses));
    body.append(tryForm(path, method, described));
  });
  return details;
}

function showType(name, schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([property, described]) => {
    const optional = schema.required?.includes(property) ? "" : ", optional";
    return [property, [...typeOf(described), optional], marked(described.description ?? "")];
  });
  const details = element("details", { class: "card", id: `type-${name}` }, element("summary", {}, element("code", {}, name)));
  const body = element("div", { class: "body" }, element("p", {}, ...marked(schema.description ?? "")));
  body.append(table(`Properties of ${name}`, ["Property", "Type", "Meaning"], rows));
  details.append(body);
  return details;
}

/** Open what the address names, such as #score. */
function openTarget() {
  const target = at(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.scrollIntoView();
  }
}

async function load(address) {
  const answer = await fetch(address, { cache: "no-store", credentials: "same-origin" });
  return answer.json();
}

async function show() {
  const { info, tags, paths, components } = await load("openapi.json");
  const ready = await load("readyz").catch(() => ({}));
  served = ready.models ?? [];
  at("introduction").append(...marked(info.description));
  for (const tag of tags) {
    at("operations").append(element("h2", {}, tag.name), element("p", { class: "hint" }, tag.description));
    for (const [path, methods] of Object.entries(paths)) {
      for (const [method, described] of Object.entries(methods)) {
        if (described.tags.includes(tag.name)) at("operations").append(showOperation(path, method, described));
      }
    }
  }
  at("type-list").append(...Object.entries(components.schemas).map(([name, schema]) => showType(name, schema)));
  at("types").hidden = false;
  at("state").textContent = "";
  openTarget();
}

window.addEventListener("hashchange", openTarget);
show().catch(() => {
  at("state").textContent = "The document could not be loaded. Is the server running?";
});
