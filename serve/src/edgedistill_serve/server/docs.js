// Shows the operations of the OpenAPI document with their bodies.

const state = document.getElementById("state");
const list = document.getElementById("operations");

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

// A schema with its references resolved, to a limited depth.
function resolve(schema, schemas, depth = 4) {
  if (Array.isArray(schema)) return schema.map((each) => resolve(each, schemas, depth));
  if (schema === null || typeof schema !== "object") return schema;
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return depth === 0 ? name : resolve(schemas[name], schemas, depth - 1);
  }
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, resolve(value, schemas, depth)]));
}

function body(title, content, schemas) {
  const details = element("details");
  for (const [media, { schema }] of Object.entries(content)) {
    details.append(element("summary", `${title}: ${media}`));
    details.append(element("pre", JSON.stringify(resolve(schema, schemas), null, 2)));
  }
  return details;
}

function operation(path, method, described, schemas) {
  const section = element("section");
  const heading = element("h2");
  heading.append(element("code", `${method.toUpperCase()} ${path}`));
  section.append(heading, element("p", described.summary + "."));
  for (const { name, in: place, required } of described.parameters) {
    section.append(element("p", `${name}, in the ${place}${required ? "" : ", optional"}`));
  }
  if (described.requestBody) section.append(body("Request", described.requestBody.content, schemas));
  const success = described.responses["200"];
  if (success) section.append(body("Response", success.content, schemas));
  const failures = Object.entries(described.responses).filter(([status]) => status !== "200");
  const statuses = failures.map(([status, { description }]) => `${status} ${description}`).join(" ");
  if (statuses) section.append(element("p", statuses));
  return section;
}

try {
  const answer = await fetch("openapi.json");
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
