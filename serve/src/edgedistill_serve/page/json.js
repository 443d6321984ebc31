// Reads JSON whose objects have labels as keys.

const BY_LABEL = new Set(["changes", "definitions", "probabilities", "thresholds"]);

/**
 * Parse JSON text. Objects by label become Maps: in a plain object, a label such as "constructor" or "__proto__" would find
 * what every object has. A Map has labels such as "2" and "10" in numeric order, as JSON.parse gives them; the order of the
 * codebook is that of the list of labels.
 */
export function parseJson(text) {
  return JSON.parse(text, (key, value) =>
    BY_LABEL.has(key) && value !== null && typeof value === "object" ? new Map(Object.entries(value)) : value,
  );
}
