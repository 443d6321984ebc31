// Runs parts of the page under Node, without a model.
// Argument: a folder with the page's scripts. stdin: {"task": "encode" | "blank" | "contexts" | "judge" | "redact" | "match" | "table" | "inspect" | "header" | "line", …}; stdout: what it gave, or {"fault": "…"}.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

const PAGE = pathToFileURL(join(process.argv[2], "page/"));
const { contextHash } = await import(new URL("contexts.mjs", PAGE));
const { Encoder } = await import(new URL("encoder.mjs", PAGE));
const { inspect } = await import(new URL("grading.mjs", PAGE));
const { line } = await import(new URL("csv.mjs", PAGE));
const { readTable } = await import(new URL("reading.mjs", PAGE));
const { headerRow } = await import(new URL("header.mjs", PAGE));
const { redactor } = await import(new URL("redaction.mjs", PAGE));
const { blankTest } = await import(new URL("visible_text.mjs", PAGE));
const { parseJson } = await import(new URL("json.mjs", PAGE));
const { judge, Scorer } = await import(new URL("scorer.mjs", PAGE));

const bufferOf = (text) => new Uint8Array(Buffer.from(text, "base64")).buffer;

const tasks = {
  async encode({ folder, rows }) {
    const read = async (path) => JSON.parse(await readFile(join(folder, path)));
    const page = await read("page.json");
    const encoder = new Encoder(await read("model/tokenizer.json"), await read("model/reading.json"), page);
    const scorer = new Scorer(page, null, encoder);
    return rows.map((row) => {
      const { ids, typeIds, ...others } = scorer.encode(scorer.readable(row));
      return [ids, typeIds, ...Object.values(others)];
    });
  },
  blank: ({ patterns, texts }) => texts.map(blankTest(patterns)),
  contexts: ({ patterns, texts }) => texts.map(contextHash(patterns)),
  // The scores of probabilities; JSON has no NaN, so null stands for it.
  judge: ({ page, rows }) => rows.map((row) => {
    const numbers = (values) => values.map((value) => value ?? NaN);
    const encoded = { tokens: 3, truncated: false, blank: false, unknownShare: 0, contextTokens: 0, contextTokensLost: 0 };
    try {
      return judge(numbers(row.shares), encoded, parseJson(JSON.stringify({ ...page, ...(row.page ?? {}) })), false).decision;
    } catch (error) {
      return error.message;
    }
  }),
  redact: ({ rules, texts }) => texts.map(redactor(rules)),
  // The seconds that each text takes.
  cost: ({ rules, texts }) => texts.map((text) => {
    const redact = redactor(rules);
    redact(text);
    const before = process.cpuUsage();
    redact(text);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1e6;
  }),
  // What each pattern finds at each place of each text; null for nothing.
  match: ({ patterns, texts }) =>
    patterns.map((pattern) => texts.map((text) => {
      const sticky = new RegExp(pattern, "uy");
      let place = 0;
      const places = [0, ...Array.from(text, (letter) => (place += letter.length))];
      return places.map((from) => {
        sticky.lastIndex = from;
        return sticky.exec(text)?.[0] ?? null;
      });
    })),
  table: ({ bytes, wanted }) => readTable(bufferOf(bytes), wanted),
  inspect: ({ bytes, inputs }) => inspect(bufferOf(bytes), { inputs }),
  header: ({ tables }) => tables.map(headerRow),
  lines: ({ rows, separator }) => rows.map((cells) => line(cells, separator)),
};

const asked = JSON.parse(await text(process.stdin));
let found;
try {
  found = await tasks[asked.task](asked);
} catch (error) {
  found = { fault: error.message };
}
process.stdout.write(JSON.stringify(found));
