// Reads and writes tables as RFC 4180 specifies, strictly: a malformed row is an error that names the row.

import { TableFault } from "./faults.mjs";
import { headerRow, SEARCHED_ROWS } from "./header.mjs";

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
 * Returns `{ columns, rows, header, separator, marked, encoding }`. `header` is the number of the row with the names, from 1:
 * the number of the first row in a spreadsheet is one more. `marked` is whether the file begins with a byte order mark,
 * `encoding` the name of an encoding other than UTF-8.
 */
export function readText(bytes, wanted) {
  const { text, encoding } = decoded(bytes);
  const marked = text.startsWith("\ufeff");
  const whole = marked ? text.slice(1) : text;
  // Excel reads this line as the separator of the file, and does not show it.
  const stated = /^"?sep=([^\r\n"])"?(\r\n|\r|\n)/i.exec(whole);
  const content = stated ? whole.slice(stated[0].length) : whole;
  const separator = stated ? stated[1] : separatorOf(content, wanted);
  const all = [...recordsOf(content, separator)];
  const header = headerRow(all.slice(0, SEARCHED_ROWS));
  const [names = [], ...records] = all.slice(header - 1);
  const columns = withoutUnnamed(names, records);
  checkColumns(columns, header);
  const rows = rowsOf(records, names.length, header).map((cells) => cells.slice(0, columns.length));
  return { columns, rows, header, separator, marked, encoding };
}

/** The names without several unnamed columns at the end, below which there is nothing. */
function withoutUnnamed(names, records) {
  const width = names.findLastIndex(Boolean) + 1;
  const isEmpty = records.every((cells) => !cells.slice(width).some(Boolean));
  return names.length > width + 1 && width > 0 && isEmpty ? names.slice(0, width) : names;
}

/** Raise where a table has no header, or two columns with one name; `row` is the header's number. */
export function checkColumns(columns, row) {
  if (!columns.some(Boolean)) throw new TableFault("fault_empty");
  const repeated = columns.find((name, at) => columns.indexOf(name) < at);
  if (repeated === "") throw new TableFault("fault_unnamed", { row });
  if (repeated !== undefined) throw new TableFault("fault_twice", { row, name: repeated });
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

/**
 * The separator with which the header has most of the expected columns; a comma by default. The header is the first line
 * with an expected column, else the first one with several columns.
 */
function separatorOf(content, wanted) {
  const lines = content.split(/\r\n|\r|\n/, SEARCHED_ROWS).map((text) => SEPARATORS.map((separator) => namesOf(text, separator)));
  const expected = (names) => names.filter((name) => wanted.includes(name)).length;
  const header = lines.find((found) => found.some(expected)) ?? lines.find((found) => found.some((names) => names.length > 1)) ?? lines[0];
  const found = header.map((names) => expected(names) * 1000 + names.length);
  return SEPARATORS.at(found.indexOf(Math.max(...found)));
}

function namesOf(text, separator) {
  return text.split(separator).map((name) => name.replace(/^"|"$/g, ""));
}

function rowsOf(records, width, header) {
  while (width > 1 && records.at(-1)?.length === 0) records.pop();
  return records.map((record, at) => {
    const cells = record.length || width > 1 ? record : [""];
    if (cells.length !== width) {
      const row = header + at + 1;
      if (!cells.length) throw new TableFault("fault_empty_row", { row });
      throw new TableFault("fault_fields", { row, found: cells.length, wanted: width });
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
