// Reads rows with the page's own encoder under Node, without a model.
// Argument: the folder of a written page. stdin: [{"response": "…"}]; stdout: one [ids, type ids, tokens, truncated] each.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { Scorer } from "../../export/src/edgedistill_export/web/page/scorer.mjs";
import { Encoder } from "../../export/src/edgedistill_export/web/page/encoder.mjs";

const read = async (path) => JSON.parse(await readFile(join(process.argv[2], path)));
const page = await read("page.json");
const encoder = new Encoder(await read("model/tokenizer.json"), await read("model/reading.json"), page.max_tokens);
const scorer = new Scorer(page, null, encoder);
const found = JSON.parse(await text(process.stdin)).map((row) => {
  const { ids, typeIds, tokens, truncated } = scorer.encode(scorer.readable(row));
  return [ids, typeIds, tokens, truncated];
});
process.stdout.write(JSON.stringify(found));
