// Where the names of the columns are: in the first row, or below title rows, by the rules of `guess_header_row` of
// `edgedistill init --from`.

/** Rows in which the names are looked for. */
export const SEARCHED_ROWS = 5;
const NUMBER = /^[-+0-9.,:% ]+$/;
const DATE = /^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[ T].*)?|[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{2,4}(?: .*)?)$/;

/** The number, from 1, of the row with the names of the columns. `rows` are the cells of the first rows. */
export function headerRow(rows) {
  const width = Math.max(0, ...rows.map(widthOf));
  for (const [at, row] of rows.entries()) {
    const missing = width - row.slice(0, width).filter((cell) => cell.trim()).length;
    if (missing < 2 || 3 * missing < width) return row.slice(0, width).every(isName) ? at + 1 : 1;
  }
  return 1;
}

function widthOf(row) {
  return row.findLastIndex((cell) => cell.trim()) + 1;
}

function isName(cell) {
  const text = cell.trim();
  return !NUMBER.test(text) && !DATE.test(text);
}
