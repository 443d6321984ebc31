// Writes the OpenAPI document as a list of operations, each with its bodies.

const state = document.getElementById("state");
const list = document.getElementById("operations");

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

// A schema with the schemas that it names in their places, to a depth that stays readable.
function inPlace(schema, schemas, depth = 4) {
  if (Array.isArray(schema)) return schema.map((each) => inPlace(each, schemas, depth));
  if (schema === null || typeof schema !== "object") return schema;
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return depth === 0 ? name : inPlace(schemas[name], schemas, depth - 1);
  }
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, inPlace(value, schemas, depth)]));
}

function body(title, content, schemas) {
  const details = element("details");
  for (const [media, { schema }] of Object.entries(content)) {
    details.append(element("summary", `${title}: ${media}`));
    details.append(element("pre", JSON.stringify(inPlace(schema, schemas), null, 2)));
  }
  return details;
}

function operation(path, method, described, schemas) {
  const section = element("section");
  const heading = element("h2");
  heading.append(element("code", `${method.toUpperCase()} ${path}`));
  section.append(heading, element("p", described.summary + "."));
  for (const { name, in: place, required } of described.parameters) {
    section.append(element("p", `${name}, in the ${place}${required ? "" : ", may be left out"}`));
  }
  if (described.requestBody) section.append(body("Takes", described.requestBody.content, schemas));
  const done = described.responses["200"];
  if (done) section.append(body("Gives", done.content, schemas));
  const failures = Object.entries(described.responses).filter(([status]) => status !== "200");
  const said = failures.map(([status, { description }]) => `${status} ${description}`).join(" ");
  if (said) section.append(element("p", said));
  return section;
}

try {
  const answer = await fetch("/openapi.json");
  const { paths, components } = await answer.json();
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, described] of Object.entries(methods)) {
      list.append(operation(path, method, described, components.schemas));
    }
  }
  state.remove();
} catch {
  state.textContent = "The document could not be loaded.";
}
