// Replaces personal data as `edgedistill_serve.task.redaction` does, with the patterns that Python translated.

/**
 * Returns `redact(text) -> text`, null `rules` for no redaction. `rules.steps` are `{ pattern, placeholder, unchanged, folded }`
 * in order; `same` and `invisible` are the characters of `fold`.
 */
export function redactor(rules) {
  if (!rules) return (text) => text;
  const fold = folder(rules);
  const steps = rules.steps.map(({ pattern, placeholder, unchanged, folded }) => ({
    pattern: new RegExp(pattern, "gu"),
    placeholder,
    kept: new RegExp(`${rules.placeholders}|${unchanged}`, "gu"),
    folded,
  }));

  /** The places of the matches in `text`, between the placeholders and the texts that stay unchanged. */
  function spansOf(text, { pattern, kept }) {
    const spans = [];
    let start = 0;
    const search = (end) => {
      // The text up to the end, so that look-ahead sees no more, as in Python.
      const piece = rules.isolated ? text.slice(start, end) : text.slice(0, end);
      const offset = rules.isolated ? start : 0;
      pattern.lastIndex = start - offset;
      for (let found = pattern.exec(piece); found; found = pattern.exec(piece)) {
        spans.push([offset + found.index, offset + found.index + found[0].length]);
        if (!found[0]) pattern.lastIndex += piece.codePointAt(found.index) > 0xffff ? 2 : 1;
      }
    };
    for (const found of text.matchAll(kept)) {
      search(found.index);
      start = found.index + found[0].length;
    }
    search(text.length);
    return spans;
  }

  function apply(text, step) {
    const { read, starts, ends } = step.folded ? fold(text) : { read: text };
    const parts = [];
    let end = 0;
    for (const [first, last] of spansOf(read, step)) {
      if (first === last) continue;
      parts.push(text.slice(end, starts ? starts[first] : first), step.placeholder);
      end = ends ? ends[last - 1] : last;
    }
    return parts.length ? parts.join("") + text.slice(end) : text;
  }

  return (text) => {
    for (let pass = 0; pass < rules.passes; pass += 1) {
      const before = text;
      text = steps.reduce(apply, text);
      if (text === before) break;
    }
    return text;
  };
}

/** Returns `fold(text) -> { read, starts, ends }`: the text to be matched, and where each of its units comes from in `text`. */
function folder({ same: [from, to], invisible }) {
  const others = Array.from(to);
  const replaced = new Map(Array.from(from, (letter, place) => [letter, others[place]]));
  for (const letter of invisible) replaced.set(letter, "");

  return (text) => {
    if (!/[^\0-\x7f]/.test(text)) return { read: text };
    const letters = [];
    const starts = [];
    const ends = [];
    let place = 0;
    for (const letter of text) {
      const read = replaced.get(letter) ?? letter;
      for (let unit = 0; unit < read.length; unit += 1) {
        starts.push(place);
        ends.push(place + letter.length);
      }
      letters.push(read);
      place += letter.length;
    }
    return { read: letters.join(""), starts, ends };
  };
}
