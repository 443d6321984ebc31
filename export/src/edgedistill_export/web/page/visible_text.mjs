// Whether a text has anything visible, like `edgedistill_serve.task.visible_text`, with its patterns.

const LAST_CODE_POINT = 0x10ffff;

/** Returns `isBlank(text) -> boolean`; `patterns` is `invisible` of page.json. */
export function blankTest(patterns) {
  const sticky = (pattern) => new RegExp(pattern, "uy");
  const [spaces, markup, reference] = [patterns.spaces, patterns.markup, patterns.reference].map(sticky);

  function end(pattern, text, from) {
    pattern.lastIndex = from;
    return pattern.test(text) ? pattern.lastIndex : -1;
  }

  function endOfReference(text, from) {
    reference.lastIndex = from;
    const found = reference.exec(text);
    if (!found) return -1;
    const point = found[1] ? parseInt(found[1], 16) : parseInt(found[2], 10);
    const isInvisible = point <= LAST_CODE_POINT && end(spaces, String.fromCodePoint(point), 0) > 0;
    return isInvisible ? reference.lastIndex : -1;
  }

  return (text) => {
    let at = 0;
    while (at < text.length) {
      at = Math.max(end(spaces, text, at), end(markup, text, at), endOfReference(text, at));
      if (at < 0) return false;
    }
    return true;
  };
}

/** Returns `withoutMarkup(text) -> text`; `patterns` is `invisible` of page.json. */
export function markupRemover(patterns) {
  const [end, markup, tags, reference] = [
    patterns.comment_end,
    patterns.markup,
    patterns.markup_but_comments,
    patterns.reference,
  ].map((pattern) => new RegExp(pattern, "gu"));

  const character = (whole, hexadecimal, decimal) => {
    const point = hexadecimal ? parseInt(hexadecimal, 16) : parseInt(decimal, 10);
    const isNone = point > LAST_CODE_POINT || (point >= 0xd800 && point < 0xe000);
    return isNone ? whole : String.fromCodePoint(point);
  };

  return (text) => {
    if (!text.includes("<") && !text.includes("&")) return text;
    // As in Python: behind the last end of a comment none is closed.
    let closed = 0;
    for (const found of text.matchAll(end)) closed = found.index + found[0].length;
    const shown = text.slice(0, closed).replace(markup, " ") + text.slice(closed).replace(tags, " ");
    return shown.replace(reference, character);
  };
}
