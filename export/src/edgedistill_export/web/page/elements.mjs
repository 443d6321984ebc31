// The page's elements: found by their id, or made new.

export const at = (id) => document.getElementById(id);

/** A text stays a text, whatever it looks like. */
export function made(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}
