// Reads a sheet of an Excel workbook (ECMA-376). Cells have the values that the spreadsheet showed last, not formulas:
// those whose formula has no stored result are empty, and are listed; dates are written as in ISO 8601, as `edgedistill_serve.grading.spreadsheets` does.
import { checkColumns } from "./csv.mjs";
import { TableFault } from "./faults.mjs";
import { headerRow, SEARCHED_ROWS } from "./header.mjs";

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const END_BYTES = 22;
const MOST_COMMENT = 65_535;
const STORED = 0;
const DEFLATED = 8;
/** A packed file of a few kilobytes may unpack to any size. */
const MOST_UNPACKED = 1e9;
const MOST_COLUMNS = 16_384;
const DAY = 86_400_000;
/** Number formats of dates and times that every workbook has. */
const DATE_FORMATS = new Set([14, 15, 16, 17, 18, 19, 20, 21, 22, 27, 30, 36, 45, 46, 47, 50, 57]);

/** Whether a file is a zip archive, as workbooks are. */
export function isZip(bytes) {
  return startsWith(bytes, [0x50, 0x4b, 3, 4]);
}

/** Whether a file is a compound file: a workbook with a password, or of Excel up to 2003. */
export function isOldWorkbook(bytes) {
  return startsWith(bytes, [0xd0, 0xcf, 0x11, 0xe0]);
}

function startsWith(bytes, wanted) {
  const head = new Uint8Array(bytes.slice(0, wanted.length));
  return head.length === wanted.length && wanted.every((byte, at) => head.at(at) === byte);
}

/**
 * Read a workbook: the first sheet that has the wanted columns, or else the first with rows, or else the first.
 * Returns `{ columns, rows, numbers, header, sheet, formulas }` as `readTable` does. Rows without a value are left out.
 */
export async function readWorkbook(bytes, wanted = []) {
  try {
    let withRows;
    let first;
    for await (const found of sheetsOf(new Uint8Array(bytes))) {
      const table = tableOf(found);
      const names = table.columns.map(folded);
      if (wanted.length && wanted.every((name) => names.includes(folded(name)))) return checked(table);
      first ??= table;
      if (table.rows.length) withRows ??= table;
    }
    return checked(withRows ?? first);
  } catch (error) {
    if (error instanceof TableFault) throw error;
    throw new TableFault("fault_workbook");
  }
}

function folded(name) {
  return name.trim().toLowerCase();
}

function checked(table) {
  checkColumns(table.columns, table.header);
  return table;
}

function tableOf({ records, sheet, open }) {
  const cellsOf = (number) => records.find((record) => record.number === number)?.cells ?? [];
  const header = headerRow(Array.from({ length: SEARCHED_ROWS }, (_, at) => cellsOf(at + 1)));
  const columns = cellsOf(header);
  while (columns.at(-1) === "") columns.pop();
  const width = columns.length;
  const used = records.filter(({ number, cells }) => number > header && cells.some((cell) => cell !== ""));
  return {
    columns,
    rows: used.map(({ cells }) => Array.from({ length: width }, (_, at) => cells.at(at) ?? "")),
    numbers: used.map(({ number }) => number),
    header,
    sheet,
    formulas: open
      .filter(({ row, column }) => row > header && column < width)
      .map(({ row, column, reference }) => ({ column: columns.at(column), cell: reference ?? `R${row}C${column + 1}` })),
  };
}

/** The sheets in order, each read when it is asked for. */
async function* sheetsOf(bytes) {
  const archive = entriesOf(bytes);
  const read = async (path) => (archive.has(path) ? unpacked(bytes, archive.get(path)) : null);
  const workbookPath = targetOf(await read("_rels/.rels"), "", (relation) => relation.get("Type").endsWith("/officeDocument"));
  const workbook = await read(workbookPath);
  const folder = workbookPath.replace(/[^/]*$/, "");
  const relations = await read(`${folder}_rels/${workbookPath.slice(folder.length)}.rels`);
  const sheets = [];
  let is1904 = false;
  for (const { name, attributes } of partsOf(workbook)) {
    if (name === "sheet") sheets.push(attributes);
    if (name === "workbookPr") is1904 = ["1", "true"].includes(attributes.get("date1904"));
  }
  const related = (kind) => targetOf(relations, folder, (relation) => relation.get("Type").endsWith(`/${kind}`));
  const [shared, styles] = [await read(related("sharedStrings")), await read(related("styles"))];
  const of = { shared: shared ? sharedTexts(shared) : [], dates: styles ? dateStyles(styles) : [], is1904 };
  for (const each of sheets) {
    const path = targetOf(relations, folder, (relation) => relation.get("Id") === (each.get("r:id") ?? each.get("id")));
    const content = await read(path);
    if (content === null && each !== sheets.at(0)) continue;
    const context = { ...of, open: [] };
    yield { records: recordsOf(content, context), open: context.open, sheet: { name: each.get("name"), count: sheets.length } };
  }
}

/** The path that a relation leads to; "" if none is meant. */
function targetOf(relations, folder, isMeant) {
  for (const { name, attributes } of partsOf(relations ?? "")) {
    if (name !== "Relationship" || !isMeant(attributes)) continue;
    const target = attributes.get("Target");
    return new URL(target, `https://workbook/${folder}`).pathname.slice(1);
  }
  return "";
}

/** The texts that cells refer to. */
function sharedTexts(content) {
  const texts = [];
  let inPhonetic = false;
  let inText = false;
  for (const { name, isEnd, isEmpty, text } of partsOf(content)) {
    if (name === "rPh") inPhonetic = !isEnd && !isEmpty;
    else if (name === "t") inText = !isEnd && !isEmpty;
    else if (name === "si" && !isEnd) texts.push("");
    else if (text !== undefined && inText && !inPhonetic) texts.push(texts.pop() + text);
  }
  return texts.map(unescaped);
}

/** Whether each cell style is a date or a time. */
function dateStyles(content) {
  const formats = new Map();
  const styles = [];
  let inCells = false;
  for (const { name, isEnd, attributes } of partsOf(content)) {
    if (name === "numFmt") formats.set(Number(attributes.get("numFmtId")), attributes.get("formatCode") ?? "");
    if (name === "cellXfs") inCells = !isEnd;
    if (name === "xf" && inCells && !isEnd) styles.push(Number(attributes.get("numFmtId")));
  }
  const bare = (code) => code.replace(/"[^"]*"|\\.|\[[^\]]*\]|_.|\*./g, "").split(";").at(0);
  return styles.map((id) => (formats.has(id) ? /[dmyhs]/i.test(bare(formats.get(id)).replace(/general/i, "")) : DATE_FORMATS.has(id)));
}

/** The rows of a sheet: `{ number, cells }`, with "" for a cell without a value; formulas without a result are added to `context.open`. */
function recordsOf(content, context) {
  const records = [];
  let [row, cell, part] = [null, null, null];
  for (const { name, isEnd, isEmpty, attributes, text } of partsOf(content)) {
    if (name === "row" && !isEnd) {
      row = { number: Number(attributes.get("r") ?? (records.at(-1)?.number ?? 0) + 1), cells: [] };
      records.push(row);
    } else if (name === "c" && !isEnd) {
      cell = { kind: attributes.get("t") ?? "n", style: Number(attributes.get("s") ?? 0), text: null };
      cell.reference = attributes.get("r");
      cell.column = attributes.has("r") ? columnOf(attributes.get("r")) : row.cells.length;
      if (!(cell.column < MOST_COLUMNS)) throw new TableFault("fault_workbook");
      if (isEmpty) cell = null;
    } else if (name === "f" && cell) {
      // A result that is an empty text is none either, and says that it is a text.
      cell.isOpen = cell.kind !== "str";
    } else if (name === "c") {
      if (cell.isOpen && cell.text === null) {
        context.open.push({ row: row.number, column: cell.column, reference: cell.reference });
      }
      while (row.cells.length < cell.column) row.cells.push("");
      row.cells.splice(cell.column, 1, valueOf(cell, context));
      cell = null;
    } else if (name === "v" || name === "t") {
      part = isEnd || isEmpty ? null : name;
    } else if (text !== undefined && cell && part) {
      cell.text = (cell.text ?? "") + text;
    }
  }
  return records;
}

function columnOf(reference) {
  const letters = /^[A-Z]+/.exec(reference)[0];
  return Array.from(letters).reduce((sum, letter) => 26 * sum + letter.charCodeAt(0) - 64, 0) - 1;
}

function valueOf({ kind, style, text }, { shared, dates, is1904 }) {
  if (text === null) return "";
  if (kind === "s") return shared.at(Number(text)) ?? "";
  if (kind === "str" || kind === "inlineStr") return unescaped(text);
  if (kind === "b") return text === "1" ? "true" : "false";
  if (kind !== "n" || !Number.isFinite(Number(text))) return text;
  return dates.at(style) ? dateText(Number(text), is1904) : String(Number(text));
}

/** A date as Python's openpyxl reads it: days since the last of 1899, with a day too many before March 1900, or since 1904. */
function dateText(days, is1904) {
  const offset = is1904 ? Date.UTC(1904, 0, 1) : Date.UTC(1899, 11, days < 60 ? 31 : 30);
  const moment = new Date(offset + Math.round(days * 86_400) * 1000);
  if (Number.isNaN(moment.getTime())) return String(days);
  const iso = moment.toISOString();
  if (!is1904 && days >= 0 && days < 1) return iso.slice(11, 19);
  // A day without a time, as it is shown.
  return iso.slice(11, 19) === "00:00:00" ? iso.slice(0, 10) : iso.slice(0, 19);
}

/** Characters that XML cannot have are written as _x000D_, and such a text itself with _x005F_ in front. */
function unescaped(text) {
  return text.replace(/_x([0-9A-Fa-f]{4})_/g, (_, code) => String.fromCharCode(parseInt(code, 16)));
}

/** The tags and texts of an XML file, in order: `{ name, isEnd, isEmpty, attributes }` or `{ text }`. */
function* partsOf(content) {
  const part = /<!\[CDATA\[([^]*?)\]\]>|<!-{2}[^]*?-->|<\?[^]*?\?>|<(\/?)([^\s/>!?]+)((?:[^"'>]|"[^"]*"|'[^']*')*)>|([^<]+)/gy;
  while (part.lastIndex < content.length) {
    const found = part.exec(content);
    // A document type could define entities that grow without limit; workbooks have none.
    if (!found) throw new TableFault("fault_workbook");
    const [, literal, slash, tag, inside, text] = found;
    if (literal !== undefined || text !== undefined) yield { text: literal ?? decoded(text) };
    else if (tag !== undefined) yield tagOf(tag, slash === "/", inside);
  }
}

function tagOf(tag, isEnd, inside) {
  const attributes = new Map();
  for (const [, key, , double, single] of inside.matchAll(/([^\s=]+)\s*=\s*("([^"]*)"|'([^']*)')/g)) {
    attributes.set(key, decoded(double ?? single));
  }
  return { name: tag.replace(/^.*:/, ""), isEnd, isEmpty: inside.endsWith("/"), attributes };
}

const ENTITIES = new Map([["amp", "&"], ["lt", "<"], ["gt", ">"], ["quot", '"'], ["apos", "'"]]);

function decoded(text) {
  if (!text.includes("&")) return text;
  return text.replace(/&(?:#x([0-9a-fA-F]+)|#([0-9]+)|(\w+));/g, (whole, hex, decimal, name) => {
    if (name) return ENTITIES.get(name) ?? whole;
    return String.fromCodePoint(hex ? parseInt(hex, 16) : Number(decimal));
  });
}

/** The files of a zip archive by path: `{ start, size, unpackedSize, method }`. */
function entriesOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const last = bytes.length - END_BYTES;
  let end = last;
  while (end >= Math.max(0, last - MOST_COMMENT) && view.getUint32(end, true) !== END) end -= 1;
  const entries = new Map();
  let at = view.getUint32(end + 16, true);
  for (let count = view.getUint16(end + 10, true); count > 0; count -= 1) {
    if (view.getUint32(at, true) !== ENTRY) throw new TableFault("fault_workbook");
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((place) => view.getUint16(at + place, true));
    const path = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    const local = view.getUint32(at + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    entries.set(path, { start, size: view.getUint32(at + 20, true), method: view.getUint16(at + 10, true) });
    at += 46 + nameLength + extraLength + commentLength;
  }
  return entries;
}

/** The text of a file of the archive. */
async function unpacked(bytes, { start, size, method }) {
  const packed = new Blob([bytes.subarray(start, start + size)]);
  if (method === STORED) return packed.text();
  if (method !== DEFLATED) throw new TableFault("fault_workbook");
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const parts = [];
  let length = 0;
  const reader = packed.stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    length += next.value.length;
    if (length > MOST_UNPACKED) throw new TableFault("fault_workbook");
    parts.push(decoder.decode(next.value, { stream: true }));
  }
  return parts.join("") + decoder.decode();
}
