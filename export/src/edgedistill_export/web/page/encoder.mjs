// Converts texts to token ids, like `edgedistill_serve.scoring.encoding`.
import { NFKCNormalizer, Tokenizer } from "../vendor/tokenizers.min.mjs";
import { letterReader } from "./letters.mjs";
import { compatibilityForm, isUnigram, unigramReader } from "./unigram.mjs";
import { markupRemover } from "./visible_text.mjs";

/**
 * `tokenizer` is tokenizer.json, `reading` the content of reading.json (`web/tokenizer_tables.py`), `page` that of page.json.
 */
export class Encoder {
  constructor(tokenizer, reading, page) {
    this.maxTokens = page.max_tokens;
    this.truncation = page.truncation;
    this.cutOrder = page.cut_order;
    this.ink = new RegExp(page.invisible.ink, "gu");
    this.withoutMarkup = markupRemover(page.invisible);
    this.letter = new RegExp(page.letters.letter, "gu");
    this.visible = new RegExp(page.letters.visible, "gu");
    this.unknown = reading.unknown;
    this.frames = { single: reading.single, pair: reading.pair };
    // A typed [SEP] is text; the special tokens around the texts are added in `encode`.
    const added = tokenizer.added_tokens.filter((token) => !token.special);
    this.tokenizer = new Tokenizer({ ...tokenizer, added_tokens: added, post_processor: null }, {});
    if (reading.letters) {
      const letters = letterReader(reading.letters);
      this.tokenizer.normalizer = letters.normalize;
      this.tokenizer.pre_tokenizer = letters.split;
    } else {
      asInRust(this.tokenizer.pre_tokenizer);
      withForm(this.tokenizer.normalizer, compatibilityForm(reading.unchanged ?? []));
    }
    this.reader = isUnigram(tokenizer) ? unigramReader(tokenizer, this.tokenizer.normalizer) : this.libraryReader();
  }

  /** The parts of the library's tokenizer, as `unigramReader` returns them. */
  libraryReader() {
    const { normalizer, pre_tokenizer: split, model } = this.tokenizer;
    return {
      words: (text) => {
        const normalized = normalizer ? normalizer(text) : text;
        return split ? split(normalized, { section_index: 0 }) : [normalized];
      },
      ids: (word) => model([word]).map((piece) => model.tokens_to_ids.get(piece) ?? this.unknown),
      piece: (id) => model.vocab[id],
      encode: (text) => this.tokenizer.encode(text).ids,
    };
  }

  /**
   * Encode a response and its context, `[name, text]` of each input before it; the context is truncated before the response.
   * `blank`: whether the response has nothing visible.
   */
  encode(inputs, response, blank) {
    if (this.truncation === "references_apart") return this.encodeApart(inputs, response, blank);
    const context = inputs.map(([, text]) => text).join(" ") || null;
    const frame = context === null ? this.frames.single : this.frames.pair;
    const room = this.maxTokens - frame.filter((part) => "id" in part).length;
    const whole = this.ids(response);
    const kept = whole.slice(0, room);
    const around = context === null ? [] : this.ids(context);
    const before = this.cut(inputs, around, room - kept.length);
    const texts = context === null ? [kept] : [before, kept];
    const ids = [];
    const typeIds = [];
    for (const part of frame) {
      const placed = "id" in part ? [part.id] : texts[part.text];
      for (const id of placed) {
        ids.push(id);
        typeIds.push(part.type);
      }
    }
    return {
      ids,
      typeIds,
      tokens: whole.length,
      truncated: whole.length > room,
      blank,
      unknownShare: this.unknownShareShown(response, kept, blank),
      contextTokens: around.length,
      contextTokensLost: around.length - before.length,
      letterShare: this.letterShare(this.withoutMarkup(response)),
    };
  }

  /** Like `encode`, with each text before the response by itself, like `_join_apart` in Python. */
  encodeApart(inputs, response, blank) {
    const texts = textsApart(new Map(inputs)).map((text) => this.ids(text));
    const frame = texts.length === 0 ? this.frames.single : this.frames.pair;
    const available = this.maxTokens - frame.filter((part) => "id" in part).length;
    const whole = this.ids(response);
    const kept = whole.slice(0, available);
    let room = available - kept.length;
    const before = [];
    for (const text of texts) {
      const separators = before.length > 0 ? 1 : 0;
      const part = text.slice(0, Math.max(room - separators, 0));
      if (part.length > 0 || separators === 0) {
        before.push(part);
        room -= separators + part.length;
      }
    }
    const ids = [];
    const typeIds = [];
    const add = (id, type) => {
      ids.push(id);
      typeIds.push(type);
    };
    let type = 0;
    frame.forEach((part, place) => {
      if ("id" in part) {
        add(part.id, part.type || type);
      } else if (texts.length > 0 && part.text === 0) {
        before.forEach((text, number) => {
          if (number > 0) {
            add(frame[place + 1].id, type);
            type = number + 1; // 1 is the response
          }
          for (const id of text) add(id, type);
        });
      } else {
        for (const id of kept) add(id, part.type);
      }
    });
    const contextTokens = texts.reduce((sum, text) => sum + text.length, 0);
    return {
      ids,
      typeIds,
      tokens: whole.length,
      truncated: whole.length > available,
      blank,
      unknownShare: this.unknownShareShown(response, kept, blank),
      contextTokens,
      contextTokensLost: contextTokens - before.reduce((sum, text) => sum + text.length, 0),
      letterShare: this.letterShare(this.withoutMarkup(response)),
    };
  }

  /** The share of the visible characters that are letters of the training texts' scripts; 1 for a blank text. */
  letterShare(response) {
    const visible = response.match(this.visible)?.length ?? 0;
    return visible === 0 ? 1 : Math.min(1, (response.match(this.letter)?.length ?? 0) / visible);
  }

  /** The tokens of a context that fit, like `_cut_context` in Python. */
  cut(inputs, ids, room) {
    let over = ids.length - room;
    if (over <= 0) return ids;
    if (inputs.length === 1 || this.truncation === "context_first") return ids.slice(0, room);
    const parts = new Map();
    let start = 0;
    inputs.forEach(([name], at) => {
      const isLast = at === inputs.length - 1;
      const tokens = isLast ? ids.length : this.ids(inputs.slice(0, at + 1).map(([, text]) => text).join(" ")).length;
      const end = Math.min(Math.max(tokens, start), ids.length);
      parts.set(name, ids.slice(start, end));
      start = end;
    });
    for (const name of this.cutOrder) {
      const part = parts.get(name) ?? [];
      const taken = Math.min(over, part.length);
      if (taken > 0) parts.set(name, part.slice(0, part.length - taken));
      over -= taken;
    }
    return [...parts.values()].flat();
  }

  /** `unknownShare`, of the response without HTML markup if that is larger. */
  unknownShareShown(response, kept, blank) {
    const share = this.unknownShare(response, kept, blank);
    const shown = this.withoutMarkup(response);
    if (shown === response || blank) return share;
    return Math.max(share, this.unknownShare(shown, this.ids(shown).slice(0, kept.length), blank));
  }

  /** The share of the tokens that are unknown, or of the letters, digits and symbols if that is larger. */
  unknownShare(response, kept, blank) {
    if (kept.length === 0) return blank ? 0 : 1;
    const unknown = kept.filter((id) => id === this.unknown).length;
    return unknown === 0 ? 0 : Math.max(unknown / kept.length, this.unknownCharacters(response, kept.length));
  }

  /** The share of unknown letters, digits and symbols in the first tokens of a text. */
  unknownCharacters(text, tokens) {
    const { words, ids, piece } = this.reader;
    const count = (letters) => letters.match(this.ink)?.length ?? 0;
    let [known, unknown] = [0, 0];
    for (const word of words(text)) {
      const read = ids(word).slice(0, tokens);
      tokens -= read.length;
      const letters = read.filter((id) => id !== this.unknown).reduce((sum, id) => sum + count(piece(id)), 0);
      known += letters;
      if (read.includes(this.unknown)) unknown += Math.max(0, count(word) - letters);
      if (tokens === 0) break;
    }
    return unknown === 0 ? 0 : unknown / (known + unknown);
  }

  ids(text) {
    return text ? this.reader.encode(text) : [];
  }
}

// What Python's `splitlines` splits at and `strip` removes.
const LINE_END = /\r\n|[\n-\r\x1c-\x1e\x85\u2028\u2029]/u;
const OUTER_SPACE = /^[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+|[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+$/gu;
const trimmed = (text) => text.replace(OUTER_SPACE, "");

/** The texts before the response, each by itself, like `texts_apart` in Python. */
function textsApart(inputs) {
  const lines = (inputs.get("reference_answer") ?? "").split(LINE_END).map(trimmed).filter(Boolean);
  const rubric = inputs.get("rubric") ?? "";
  const answers = trimmed(rubric) ? [...lines, rubric] : lines;
  if (answers.length > 0) return answers;
  const question = inputs.get("question") ?? "";
  return trimmed(question) ? [question] : [];
}

/** Let NFKC, alone or in a sequence, be `form`. */
function withForm(step, form) {
  for (const inner of step?.normalizers ?? []) withForm(inner, form);
  if (step instanceof NFKCNormalizer) step.normalize = form;
}

/** In JavaScript, \s matches U+FEFF and not U+0085; in Rust's byte-level tokenizers it is the opposite. */
function asInRust(step) {
  for (const inner of step?.tokenizers ?? []) asInRust(inner);
  if (step?.byte_encoder) {
    const source = step.pattern.source.replaceAll("\\s", "\\p{White_Space}").replaceAll("\\S", "\\P{White_Space}");
    step.pattern = new RegExp(source, step.pattern.flags);
  }
}
