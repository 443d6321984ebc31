// Classifies rows with a bundle's folder as transformers.js loads it, with no file from a network.
// stdin: {"folder": "/…", "dtype": "q8" | "fp32", "rows": [{"text": "…", "text_pair": "…" or absent}], "every": boolean}
// stdout: [{"label": "…", "score": 0.9}], one for each row; where "every", a list of such for each row: all its labels
import { text } from "node:stream/consumers";
import {
  AutoModelForSequenceClassification,
  AutoTokenizer,
  env,
  pipeline,
  softmax,
} from "@huggingface/transformers";

env.allowRemoteModels = false;
const { folder, dtype, rows, every } = JSON.parse(await text(process.stdin));
const local = { dtype, local_files_only: true };
const found = [];
if (rows.some((row) => "text_pair" in row)) {
  // The pipeline takes one text; a pair goes to the tokenizer and the model that it is made of. Without the option
  // return_token_type_ids, only tokenizers of some classes tell the model where the second text begins.
  const tokenizer = await AutoTokenizer.from_pretrained(folder, local);
  const model = await AutoModelForSequenceClassification.from_pretrained(folder, local);
  for (const { text, text_pair } of rows) {
    const { logits } = await model(tokenizer(text, { text_pair, return_token_type_ids: true }));
    const shares = softmax(logits.tolist()[0]);
    const best = shares.indexOf(Math.max(...shares));
    found.push({ label: model.config.id2label[best], score: shares[best] });
  }
} else {
  const classify = await pipeline("text-classification", folder, local);
  for (const { text } of rows) {
    found.push(every ? await classify(text, { top_k: null }) : (await classify(text))[0]);
  }
}
process.stdout.write(JSON.stringify(found));
