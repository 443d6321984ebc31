// Tokenizes like Python's Unigram tokenizers (SentencePiece), which the library does with other sums and another Unicode.

const UNKNOWN_PENALTY = 10;
const SPACE = "\u2581";

/**
 * Returns `encode(text) -> token ids`, `words(text) -> words`, `ids(word) -> token ids` and `piece(id) -> text`.
 * `normalizer(text) -> text` is that of `tokenizer`, the content of tokenizer.json; null for none.
 */
export function unigramReader({ model, pre_tokenizer: preTokenizer, added_tokens: added }, normalizer) {
  // No typed text is a special token.
  const names = new Set(added.filter((token) => token.special).map((token) => token.content));
  names.add(model.vocab[model.unk_id]?.[0]);
  const known = new Map();
  let longest = 1;
  let lowest = Infinity;
  for (const [id, [piece, score]] of model.vocab.entries()) {
    lowest = Math.min(lowest, score);
    if (names.has(piece)) continue;
    known.set(piece, { id, score });
    longest = Math.max(longest, piece.length);
  }
  const unknownScore = lowest - UNKNOWN_PENALTY;
  const { splitsSpaces, prefix } = spaces(preTokenizer);

  function words(text) {
    const normalized = normalizer ? normalizer(text) : text;
    const runs = splitsSpaces ? normalized.split(/\p{White_Space}+/u) : [normalized];
    return runs.filter(Boolean).flatMap((run) => {
      const marked = run.replaceAll(" ", SPACE);
      const whole = prefix && !marked.startsWith(SPACE) ? SPACE + marked : marked;
      return whole.split(new RegExp(`(?=${SPACE})`, "u"));
    });
  }

  /** The tokens of the segmentation with the highest sum of scores, added up in Python's order. */
  function ids(word) {
    const best = Array.from({ length: word.length + 1 }, () => null);
    best[0] = { score: 0 };
    const reach = (start, end, id, score) => {
      const sum = score + best[start].score;
      if (best[end] === null || sum > best[end].score) best[end] = { start, id, score: sum };
    };
    for (let start = 0; start < word.length; ) {
      const one = start + (word.codePointAt(start) > 0xffff ? 2 : 1);
      for (let end = one; end <= Math.min(word.length, start + longest); end += 1) {
        const piece = known.get(word.slice(start, end));
        if (piece) reach(start, end, piece.id, piece.score);
      }
      if (!known.has(word.slice(start, one))) reach(start, one, model.unk_id, unknownScore);
      start = one;
    }
    return fused(word, best);
  }

  /** The tokens of the best segmentation; unknown characters in a row are one token, or the tokens of their bytes. */
  function fused(word, best) {
    const tokens = [];
    for (let end = word.length; end > 0; ) {
      let { start, id } = best[end];
      while (id === model.unk_id && start > 0 && best[start].id === model.unk_id) start = best[start].start;
      const bytes = id === model.unk_id && model.byte_fallback ? byteTokens(word.slice(start, end)) : null;
      tokens.push(...(bytes ?? [id]));
      end = start;
    }
    return tokens.reverse();
  }

  /** The tokens of the bytes of a text in reverse order; null if one has no token. */
  function byteTokens(text) {
    const names = Array.from(new TextEncoder().encode(text), (byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
    return names.every((name) => known.has(name)) ? names.reverse().map((name) => known.get(name).id) : null;
  }

  return { encode: (text) => words(text).flatMap(ids), words, ids, piece: (id) => model.vocab[id][0] };
}

/** Whether runs are split at white space first, and whether a run gets a mark before it. */
function spaces(preTokenizer) {
  const steps = preTokenizer.pretokenizers ?? [preTokenizer];
  const { prepend_scheme: scheme, add_prefix_space: legacy } = steps.at(-1);
  return { splitsSpaces: steps.length === 2, prefix: (scheme ?? (legacy === false ? "never" : "always")) !== "never" };
}

/** Whether `unigramReader` reads a tokenizer.json: Unigram with Metaspace, alone or after a split at white space. */
export function isUnigram({ model, pre_tokenizer: steps }) {
  const kinds = (steps?.pretokenizers ?? [steps]).map((step) => step?.type).join();
  const replaces = (steps?.pretokenizers ?? [steps]).at(-1)?.replacement === SPACE;
  return model.type === "Unigram" && replaces && ["Metaspace", "WhitespaceSplit,Metaspace"].includes(kinds);
}

/** NFKC by the version of Unicode that Python's tokenizer has: the characters of `unchanged`, ranges of code points, stay. */
export function compatibilityForm(unchanged) {
  const hex = (point) => `\\u{${point.toString(16)}}`;
  let letters = "";
  for (let at = 0; at < unchanged.length; at += 2) letters += `${hex(unchanged[at])}-${hex(unchanged[at + 1])}`;
  const known = new RegExp(letters ? `[^${letters}]+` : "[^]+", "gu");
  return (text) => text.replace(known, (run) => run.normalize("NFKC"));
}
