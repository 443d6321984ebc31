// The page's elements: found by their id, or made new.

export const at = (id) => document.getElementById(id);

/** The element, whose text then has the direction of its own letters, wherever it stands. */
export function isolated(element) {
  element.replaceChildren(made("bdi", "", element.textContent));
  return element;
}

/** A text stays a text, whatever it looks like. */
export function made(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}
