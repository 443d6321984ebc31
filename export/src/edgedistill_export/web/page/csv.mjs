// Reads and writes tables as RFC 4180 specifies, strictly: a malformed row is an error that names the row.

const SEPARATORS = [",", ";", "\t"];
const MOST_BYTES = 200e6;
// As in edgedistill_serve.grading.formula_cells.
const ESCAPE = "'\t";
const SIGNS = "=+@\\u2212\\ufb29\\ufe62\\ufe63\\ufe66\\ufe6b\\uff0b\\uff0d\\uff1d\\uff20\\u207a-\\u207c\\u208a-\\u208c\\-";
const SKIPPED =
  "\\0-\\x20\\x7f-\\xa0\\xad\\u0600-\\u0605\\u061c\\u06dd\\u070f\\u115f\\u1160\\u1680\\u17b4\\u17b5\\u180b-\\u180f\\u2000-\\u200f" +
  "\\u2028-\\u202f\\u205f-\\u206f\\u2800\\u3000\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff9-\\ufffb\\u{e0000}-\\u{e0fff}" +
  "\"'`\\xab\\xb4\\xbb\\u2018-\\u201f\\u2039\\u203a\\uff02\\uff07";
const FORMULA = new RegExp(`^(?:[\\t\\r\\n]|[${SKIPPED}]*[${SIGNS}])`, "u");
const NUMBER = /^ *[+\-\u2212]?(?:[0-9]+(?:[.,][0-9]+)*[.,]?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?%? *$/;

/** A table that cannot be read: the problem, the row, and a hint. */
export class TableFault extends Error {
  constructor(what, { row, hint = "" } = {}) {
    super(`${row ? `row ${row}: ` : ""}${what}.${hint ? ` ${hint}` : ""}`);
  }
}

/**
 * Read a file's bytes. `expected` are column names that identify the separator.
 * Returns `{ columns, rows, separator, marked }`; a row's number in a spreadsheet is its index plus 2. `marked` is
 * whether the file begins with a byte order mark.
 */
export function readTable(bytes, wanted) {
  if (bytes.byteLength > MOST_BYTES) {
    throw new TableFault(`the file has ${Math.round(bytes.byteLength / 1e6)} MB; the limit is ${MOST_BYTES / 1e6} MB`, {
      hint: "Use the command edgedistill-serve grade for larger files.",
    });
  }
  const text = decoded(bytes);
  const marked = text.startsWith("\ufeff");
  const whole = marked ? text.slice(1) : text;
  // Excel reads this line as the separator of the file, and does not show it.
  const stated = /^"?sep=([,;\t])"?(\r\n|\r|\n)/i.exec(whole);
  const content = stated ? whole.slice(stated[0].length) : whole;
  const separator = stated ? stated[1] : separatorOf(content, wanted);
  const [columns = [], ...records] = recordsOf(content, separator);
  if (!columns.some(Boolean)) throw new TableFault("the file is empty: it has no header row");
  const repeated = columns.find((name, at) => columns.indexOf(name) < at);
  if (repeated === "") throw new TableFault("several columns have no name", { row: 1, hint: "Name them, or delete them if they are empty." });
  if (repeated !== undefined) {
    throw new TableFault(`two columns have the name “${repeated}”`, { row: 1, hint: "Rename or delete one of them." });
  }
  return { columns, rows: rowsOf(records, columns), separator, marked };
}

function decoded(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new TableFault("the file is not valid UTF-8", { hint: "Save the file as “CSV UTF-8”." });
  }
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
      const what = cells.length ? `the row has ${cells.length} fields, the header has ${columns.length}` : "the row is empty";
      const hint = cells.length ? "Put a field that contains a separator or a line break in double quotes." : "Delete the empty line.";
      throw new TableFault(what, { row: at + 2, hint });
    }
    return cells;
  });
}

/** Yield the fields of every record; an empty line has none. */
function* recordsOf(content, separator) {
  const field = new RegExp(`"([^"]*(?:""[^"]*)*)"|([^"${separator}\\r\\n]*)`, "y");
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
        throw new TableFault("the row that begins here has an unmatched double quote", {
          row,
          hint: 'Put the field in double quotes and double each quote inside it: "he said ""yes""".',
        });
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
