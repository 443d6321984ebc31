// The texts of a page in one language: by key, with values put in, and with the plural forms of the language.

const RIGHT_TO_LEFT = new Set(["ar"]);

export class Language {
  /**
   * `texts` has a text for each key: "Of {rows} rows …", or one for each plural category of `Intl.PluralRules`, which the
   * value `count` selects.
   */
  constructor(code, texts) {
    this.code = code;
    this.texts = new Map(Object.entries(texts));
    this.plurals = new Intl.PluralRules(code);
    this.direction = RIGHT_TO_LEFT.has(code) ? "rtl" : "ltr";
  }

  /** The text of a key; numbers among the values are written as the language does. */
  say(key, values = {}) {
    const found = this.texts.get(key);
    if (found === undefined) throw new Error(`there is no text for ${key}`);
    const text = typeof found === "string" ? found : formOf(found, this.plurals.select(values.count));
    const given = new Map(Object.entries(values));
    return text.replace(/\{(\w+)\}/g, (_, name) => this.inserted(given.get(name)));
  }

  inserted(value) {
    if (typeof value === "number") return this.number(value);
    // Between the marks, a text keeps its own direction.
    return this.direction === "rtl" ? `\u2068${value}\u2069` : value;
  }

  /** A number with a fixed count of digits after the decimal separator, rounded as `toFixed` does. */
  number(value, digits = 0) {
    const form = new Intl.NumberFormat(`${this.code}-u-nu-latn`, { minimumFractionDigits: digits, maximumFractionDigits: digits });
    return form.format(Number(value.toFixed(digits)));
  }
}

/** The form of a plural category; some languages have one for millions, which most texts do not need. */
function formOf(forms, category) {
  return new Map(Object.entries(forms)).get(category) ?? forms.other;
}

let current;

/** Let `say` and `number` use this language from now on. */
export function speak(language) {
  current = language;
}

/** See `Language.say`. */
export function say(key, values) {
  return current.say(key, values);
}

/** See `Language.number`. */
export function number(value, digits) {
  return current.number(value, digits);
}
