// Reads and writes tables as RFC 4180 specifies, strictly: a malformed row is an error that names the row.

import { TableFault } from "./faults.mjs";

const SEPARATORS = [",", ";", "\t", "|"];
// As in edgedistill_serve.grading.formula_cells.
const ESCAPE = "'\t";
const SIGNS = "=+@\\u2212\\ufb29\\ufe62\\ufe63\\ufe66\\ufe6b\\uff0b\\uff0d\\uff1d\\uff20\\u207a-\\u207c\\u208a-\\u208c\\-";
const SKIPPED =
  "\\0-\\x20\\x7f-\\xa0\\xad\\u0600-\\u0605\\u061c\\u06dd\\u070f\\u115f\\u1160\\u1680\\u17b4\\u17b5\\u180b-\\u180f\\u2000-\\u200f" +
  "\\u2028-\\u202f\\u205f-\\u206f\\u2800\\u3000\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff9-\\ufffb\\u{e0000}-\\u{e0fff}" +
  "\"'`\\xab\\xb4\\xbb\\u2018-\\u201f\\u2039\\u203a\\uff02\\uff07";
const FORMULA = new RegExp(`^(?:[\\t\\r\\n]|[${SKIPPED}]*[${SIGNS}])`, "u");
const NUMBER = /^ *[+\-\u2212]?(?:[0-9]+(?:[.,][0-9]+)*[.,]?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?%? *$/;

/**
 * Read a CSV file's bytes. `wanted` are column names that identify the separator.
 * Returns `{ columns, rows, separator, marked, encoding }`; a row's number in a spreadsheet is its index plus 2. `marked` is
 * whether the file begins with a byte order mark, `encoding` the name of an encoding other than UTF-8.
 */
export function readText(bytes, wanted) {
  const { text, encoding } = decoded(bytes);
  const marked = text.startsWith("\ufeff");
  const whole = marked ? text.slice(1) : text;
  // Excel reads this line as the separator of the file, and does not show it.
  const stated = /^"?sep=([^\r\n"])"?(\r\n|\r|\n)/i.exec(whole);
  const content = stated ? whole.slice(stated[0].length) : whole;
  const separator = stated ? stated[1] : separatorOf(content, wanted);
  const [columns = [], ...records] = recordsOf(content, separator);
  checkColumns(columns);
  return { columns, rows: rowsOf(records, columns), separator, marked, encoding };
}

/** Raise where a table has no header, or two columns with one name. */
export function checkColumns(columns) {
  if (!columns.some(Boolean)) throw new TableFault("fault_empty");
  const repeated = columns.find((name, at) => columns.indexOf(name) < at);
  if (repeated === "") throw new TableFault("fault_unnamed");
  if (repeated !== undefined) throw new TableFault("fault_twice", { name: repeated });
}

/** The text of a file, and its encoding, by the rules of `edgedistill_serve.grading.dialects`. */
function decoded(bytes) {
  const utf16 = kindOfUtf16(new Uint8Array(bytes));
  if (utf16) return { text: new TextDecoder(utf16, { ignoreBOM: true }).decode(bytes), encoding: "UTF-16" };
  try {
    return { text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes), encoding: null };
  } catch {
    const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    const invalid = text.match(/\ufffd/g)?.length ?? 0;
    const valid = text.match(/[^\0-\x7f\ufffd]/gu)?.length ?? 0;
    if (text.startsWith("\ufeff") || invalid <= valid) throw new TableFault("fault_encoding");
    return { text: new TextDecoder("windows-1252").decode(bytes), encoding: "Windows-1252" };
  }
}

/** The name of a file's encoding if it is UTF-16, by its byte order mark or by the zeros of Latin letters. */
function kindOfUtf16(bytes) {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return "utf-16le";
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return "utf-16be";
  const head = bytes.subarray(0, 1024);
  const zeros = (first) => head.filter((byte, at) => at % 2 === first && byte === 0).length;
  if (zeros(0) + zeros(1) <= head.length / 4) return null;
  return zeros(1) > zeros(0) ? "utf-16le" : "utf-16be";
}

/** The separator with which the header has most of the expected columns; a comma by default. */
function separatorOf(content, wanted) {
  const header = content.slice(0, content.search(/[\r\n]|$/));
  const found = SEPARATORS.map((separator) => {
    const names = header.split(separator).map((name) => name.replace(/^"|"$/g, ""));
    return wanted.filter((name) => names.includes(name)).length * 1000 + names.length;
  });
  const best = found.indexOf(Math.max(...found));
  return SEPARATORS[best];
}

function rowsOf(records, columns) {
  while (columns.length > 1 && records.at(-1)?.length === 0) records.pop();
  return records.map((record, at) => {
    const cells = record.length || columns.length > 1 ? record : [""];
    if (cells.length !== columns.length) {
      const row = at + 2;
      if (!cells.length) throw new TableFault("fault_empty_row", { row });
      throw new TableFault("fault_fields", { row, found: cells.length, wanted: columns.length });
    }
    return cells;
  });
}

/** Yield the fields of every record; an empty line has none. */
function* recordsOf(content, separator) {
  const field = new RegExp(`"([^"]*(?:""[^"]*)*)"|([^"\\u{${separator.codePointAt(0).toString(16)}}\\r\\n]*)`, "uy");
  let at = 0;
  for (let row = 1; at < content.length; row += 1) {
    const fields = [];
    for (;;) {
      field.lastIndex = at;
      const found = field.exec(content);
      at += found[0].length;
      fields.push(textOf(found[1] === undefined ? found[2] : found[1].replaceAll('""', '"')));
      const next = content[at];
      if (next === separator) {
        at += 1;
        continue;
      }
      if (next !== undefined && next !== "\r" && next !== "\n") {
        throw new TableFault("fault_quote", { row });
      }
      if (fields.length === 1 && found[0] === "") fields.pop();
      at += content.startsWith("\r\n", at) ? 2 : 1;
      break;
    }
    yield fields;
  }
}

/** One line of a table; a text that a spreadsheet would evaluate gets an apostrophe and a tab before it. */
export function line(cells, separator) {
  return `${cells.map((cell) => quoted(harmless(cell), separator)).join(separator)}\r\n`;
}

/** Whether `line` puts an apostrophe and a tab before the cell. */
export function isFormula(cell) {
  return typeof cell === "string" && ((FORMULA.test(cell) && !NUMBER.test(cell)) || cell.startsWith(ESCAPE));
}

function harmless(cell) {
  if (cell === null) return "";
  return isFormula(cell) ? `${ESCAPE}${cell}` : String(cell);
}

/** The text of a cell, without what `line` puts before it. */
function textOf(cell) {
  const text = cell.startsWith(ESCAPE) ? cell.slice(ESCAPE.length) : cell;
  return isFormula(text) ? text : cell;
}

function quoted(text, separator) {
  return text.includes(separator) || /["\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
