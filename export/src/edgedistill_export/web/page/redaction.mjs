// Replaces personal data as `edgedistill_serve.task.redaction` does, with the patterns that Python translated.

/** Returns `redact(text) -> text`; `rules` are `{ pattern, placeholder }` in order, null where nothing is replaced. */
export function redactor(rules) {
  if (!rules) return (text) => text;
  const placeholders = new RegExp(rules.placeholders, "u");
  const steps = rules.steps.map(({ pattern, placeholder }) => [new RegExp(pattern, "gu"), placeholder]);

  function once(text) {
    for (const [pattern, placeholder] of steps) {
      // A placeholder is no text to search in.
      const pieces = text.split(placeholders);
      for (let at = 0; at < pieces.length; at += 2) {
        pieces[at] = pieces[at].replace(pattern, (found) => (found ? placeholder : ""));
      }
      text = pieces.join("");
    }
    return text;
  }

  return (text) => {
    let after = once(text);
    while (after !== text) [text, after] = [after, once(after)];
    return text;
  };
}
