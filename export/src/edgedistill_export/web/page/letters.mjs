// Normalizes and splits texts like Python's BERT tokenizer, with tables that were computed with it.
// The result therefore does not depend on the browser's version of Unicode.

const KEEP = 0;
const DROP = 1;
const SPACE = 2;
const ALONE = 3;
const REPLACE = 4;
const DECOMPOSE = 5;
const KIND = 7;
const MARK = 8;
const GAP = 16;
const CODE_POINTS = 0x110000;

/**
 * Returns `normalize(text) -> text` and `split(text) -> words`.
 * `tables`: `drop`, `space`, `alone`, `decompose`, `marks` and `gaps` are lists of alternating first and last code points
 * of ranges; `replace` maps a character to its replacement.
 */
export function letterReader(tables) {
  const known = new Uint8Array(CODE_POINTS);
  const note = (ranges, kind) => {
    for (let at = 0; at < ranges.length; at += 2) {
      for (let point = ranges[at]; point <= ranges[at + 1]; point += 1) known[point] |= kind;
    }
  };
  note(tables.drop, DROP);
  note(tables.space, SPACE);
  note(tables.alone, ALONE);
  note(tables.decompose, DECOMPOSE);
  note(tables.marks, MARK);
  note(tables.gaps, GAP);
  const replaced = new Map(Object.entries(tables.replace));
  for (const letter of replaced.keys()) known[letter.codePointAt(0)] |= REPLACE;

  function normalize(text) {
    let read = "";
    for (const letter of text) {
      const kind = known[letter.codePointAt(0)] & KIND;
      if (kind === KEEP) read += letter;
      else if (kind === SPACE) read += " ";
      else if (kind === ALONE) read += ` ${letter} `;
      else if (kind === REPLACE) read += replaced.get(letter);
      else if (kind === DECOMPOSE) read += letter.normalize("NFD");
    }
    return read;
  }

  function split(text) {
    const words = [];
    let word = "";
    for (const letter of text) {
      const kind = known[letter.codePointAt(0)];
      if (!(kind & (MARK | GAP))) {
        word += letter;
        continue;
      }
      if (word) words.push(word);
      word = "";
      if (kind & MARK) words.push(letter);
    }
    if (word) words.push(word);
    return words;
  }

  return { normalize, split };
}
