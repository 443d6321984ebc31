// Errors whose text a page can show in its language.
import { Language, say } from "./language.mjs";
import { TEXTS } from "./texts/en.mjs";

const ENGLISH = new Language("en", TEXTS);

/** An error with the key of its text and the values in it; `message` is the text in English. */
export class Fault extends Error {
  constructor(key, values = {}) {
    super(ENGLISH.say(key, values));
    this.key = key;
    this.values = values;
  }
}

/** A file of the page is missing or has changed. */
export class FileFault extends Fault {}

/** A table that cannot be read. */
export class TableFault extends Fault {}

/** The text of an error in the page's language, if it has one. */
export function said({ key, values, message }) {
  return key ? say(key, values) : message;
}
