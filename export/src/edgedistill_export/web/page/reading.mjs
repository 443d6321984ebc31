// Reads a table: CSV, or a sheet of an Excel workbook.
import { readText } from "./csv.mjs";
import { TableFault } from "./faults.mjs";
import { isOldWorkbook, isZip, readWorkbook } from "./xlsx.mjs";

const MOST_BYTES = 200e6;

/**
 * Read a file's bytes. `wanted` are column names that identify the separator of a CSV file and the sheet of a workbook.
 * Returns `{ columns, rows, header, separator, marked, encoding, sheet, formulas }`, where `rows` are lists of texts and
 * `numbers` their numbers in a spreadsheet; `sheet` is `{ name, count }` for a workbook, null for a CSV file; `formulas` are
 * the cells, `{ column, cell }`, whose formula has no stored result. The others are those of `readText`.
 */
export async function readTable(bytes, wanted) {
  if (bytes.byteLength > MOST_BYTES) {
    throw new TableFault("fault_too_large", { size: Math.round(bytes.byteLength / 1e6), limit: MOST_BYTES / 1e6 });
  }
  if (isOldWorkbook(bytes)) throw new TableFault("fault_old_workbook");
  if (isZip(bytes)) return { ...(await readWorkbook(bytes, wanted)), separator: ",", marked: true, encoding: null };
  const table = readText(bytes, wanted);
  return { ...table, numbers: table.rows.map((_, at) => table.header + at + 1), sheet: null, formulas: [] };
}
