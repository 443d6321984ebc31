// What the pages say of scores, in English unless `speak` was called.
import { Language, number, say, speak } from "./language.js";

/** The English texts of this module, by key. */
export const ENGLISH = {
  percent: "{share} %",
  percent_below: "< {share} %",
  percent_above: "> {share} %",
  accepted: "Accepted",
  review: "Review by a person",
  unvalidated: "Not validated",
  verdict_validated: "Validated: on test rows this model agrees enough with human coders.",
  verdict_some: "Validated for some labels only: {labels}.",
  verdict_review: "Validated only with human review of the responses that the decision rule selects.",
  verdict_inconclusive: "Not validated: the test rows do not show whether this model agrees enough with human coders.",
  verdict_no: "Not validated: on test rows this model agrees too little with human coders.",
  verdict_none: "Not validated: this model was not compared with human coders on test rows.",
  no_label: "No label applies",
  certain: "at least {share} certain",
  bars_calibrated: "Calibrated probabilities",
  bars_uncalibrated: "Probabilities, not calibrated",
  bars_by_label_calibrated: "Probability of each label, calibrated; the mark is its threshold",
  bars_by_label_uncalibrated: "Probability of each label, not calibrated; the mark is its threshold",
  assigned_from: "Assigned from {share}.",
  accepted_from: "Accepted from {share}.",
  accepted_never: "Never accepted without a person.",
  reason_blank: "The response is blank.",
  reason_unreadable: "The model cannot read {share} of the response: its vocabulary does not have this text.",
  reason_new_question: "The decision rule was not shown for this question.",
  reason_script:
    "Less than {share} of the response are letters of the script of the texts that the model was trained on ({scripts}).",
  reason_novel:
    "The response is unlike those that the model was trained on: {novelty} times the typical distance from them, " +
    "above the limit of {limit}.",
  reason_unmeasured:
    "Too few texts are known to the model to say whether the response is unlike them, so that a person decides.",
  reason_truncated: "The response has {tokens} tokens, more than the model can read. Only its beginning was scored.",
  reason_never: "The decision rule accepts no response without a person.",
  reason_never_label: "The decision rule accepts no response with “{label}” without a person.",
  reason_certainty: "The decision on “{label}” has a certainty of {share}, below the threshold of {threshold}.",
  reason_probability: "The probability, {share}, is below the threshold of {threshold} for “{label}”.",
  reason_other: "The review rule of the model says: {reason}.",
  reached_certainty: "“{label}” is the label with the smallest certainty; it reaches the threshold of {threshold}.",
  least_certain: "“{label}” is the label with the smallest certainty.",
  reached_probability: "The probability reaches the threshold of {threshold} for “{label}”.",
  most_probable: "“{label}” is the most probable label. The model has no threshold for it.",
  questions: { one: "1 question", other: "{count} questions" },
  contexts_open: "The decision rule was validated for open questions ({questions} in {rows} rows).",
  contexts_review: "The decision rule was validated for {questions}; responses to others go to a person.",
  contexts_alike: "The decision rule was validated for {questions}; responses to others are treated alike.",
  novelty_limit: "Responses at more than {limit} times the typical distance from the training texts go to a person.",
  tokens_read: { one: "1 token, all of them read.", other: "{count} tokens, all of them read." },
  tokens_truncated: {
    one: "1 token, truncated to what the model can read.",
    other: "{count} tokens, truncated to what the model can read.",
  },
  tokens_unknown: "{share} of the response is unknown to the model.",
  tokens_lost:
    "The model did not read {lost} of the {all} tokens before the response (question, reference answers, rubric).",
};
speak(new Language("en", ENGLISH));

/** The label of a multilabel response to which no label applies. */
export const NO_LABEL = "none";
const SEPARATOR = ";";
/** A threshold that no probability reaches, like `edgedistill_serve.bundle.manifest.NEVER_ACCEPTED`. */
const NEVER_ACCEPTED = 2;

/** A probability in [0, 1] as text; it is never rounded to 0 % or 100 %. */
export function percent(share) {
  if (share > 0 && share < 0.001) return say("percent_below", { share: number(0.1, 1) });
  if (share < 1 && share > 0.999) return say("percent_above", { share: number(99.9, 1) });
  return digitsOf(share, 1);
}

function digitsOf(share, digits) {
  return say("percent", { share: number(100 * share, digits) });
}

/** Two different probabilities, with enough digits to differ as texts. */
function distinctPercents(one, other) {
  if (percent(one) !== percent(other)) return [percent(one), percent(other)];
  const digits = [2, 3, 4, 5, 6].find((each) => (100 * one).toFixed(each) !== (100 * other).toFixed(each)) ?? 6;
  return [digitsOf(one, digits), digitsOf(other, digits)];
}

/** Two numbers with as many digits as it takes to tell them apart. */
function distinctNumbers(one, other) {
  const digits = [3, 4, 5, 6].find((each) => one.toPrecision(each) !== other.toPrecision(each)) ?? 6;
  return [one.toPrecision(digits), other.toPrecision(digits)];
}

/** A difference of two probabilities, in percentage points. */
export function points(change) {
  const shown = (100 * Math.abs(change)).toFixed(1);
  return shown === "0.0" ? "0.0" : `${change > 0 ? "+" : "−"}${shown}`;
}

/** Whether the verdict of the model covers the labels of a score; an older server or page states none. */
export function isValidated(score, { verdict, labels }) {
  if (!verdict?.status?.startsWith("validated")) return false;
  const given = labelsOf(score);
  const asserted = given.length ? given : labels.map((label) => label.name ?? label);
  return asserted.every((label) => verdict.labels.includes(label));
}

/** The decision on a score: its text and its class. Nothing is accepted by a model that test rows do not support. */
export function decision(score, model) {
  if (score.decision !== "accept") return { text: say("review"), kind: "review" };
  return isValidated(score, model)
    ? { text: say("accepted"), kind: "accept" }
    : { text: say("unvalidated"), kind: "unvalidated" };
}

/** What test rows say about the use of the model. */
export function verdictNote({ verdict }) {
  if (verdict?.status === "validated") return say("verdict_validated");
  if (verdict?.status === "validated for some labels") return say("verdict_some", { labels: verdict.labels.join(", ") });
  if (verdict?.status === "validated with human review") return say("verdict_review");
  if (verdict?.status === "inconclusive") return say("verdict_inconclusive");
  return verdict?.reason ? say("verdict_no") : say("verdict_none");
}

/** The label of a score as a list; for a multilabel task, the assigned labels. */
export function labelsOf({ label, probabilities }) {
  if (probabilities.has(label)) return [label];
  return label === NO_LABEL ? [] : label.split(SEPARATOR);
}

/** The labels of a score as one text. */
export function labelText(score) {
  return labelsOf(score).join(", ") || say("no_label");
}

/** The probability of a score's label; for a multilabel task, the smallest certainty of any label. */
export function probabilityText(score, model) {
  return isMultilabel(model) ? say("certain", { share: percent(score.probability) }) : percent(score.probability);
}

/** The caption of the bars. */
export function caption(model) {
  if (!isMultilabel(model)) return say(model.calibrated ? "bars_calibrated" : "bars_uncalibrated");
  return say(model.calibrated ? "bars_by_label_calibrated" : "bars_by_label_uncalibrated");
}

/** The threshold of a label, as a sentence after others; "" if it has none. */
export function thresholdNote(label, model) {
  if (isMultilabel(model)) return ` ${say("assigned_from", { share: percent(model.thresholds.get(label)) })}`;
  const threshold = model.review.thresholds.get(label);
  if (threshold >= NEVER_ACCEPTED) return ` ${say("accepted_never")}`;
  return threshold ? ` ${say("accepted_from", { share: percent(threshold) })}` : "";
}

/** The label of a multilabel task with the smallest certainty. */
export function leastCertain({ probabilities }, { labels, thresholds }) {
  const names = labels.map((label) => label.name ?? label);
  const certainties = names.map((name) => [name, certainty(probabilities.get(name), thresholds.get(name))]);
  return certainties.reduce((one, other) => (other[1] < one[1] ? other : one))[0];
}

/** The same formula as `edgedistill_serve.task.label_decoding.certainty`. */
function certainty(share, threshold) {
  return 0.5 + (0.5 * Math.abs(share - threshold)) / (share >= threshold ? 1 - threshold : threshold);
}

export function isMultilabel(model) {
  return model.kind === "multilabel";
}

/** Whether the distance from the training texts alone sends a response to a person. */
function isTooNovel({ novelty }, { review }) {
  return typeof novelty === "number" && typeof review.max_novelty === "number" && novelty > review.max_novelty;
}

/** Whether every response goes to a person, because too few texts are known to say what is unlike them. */
function isUnmeasured({ novelty }, { review }) {
  return typeof novelty !== "number" && typeof review.max_novelty === "number";
}

/** The reason of the decision on a score. */
export function decisionReason(score, model) {
  const threshold = isMultilabel(model) ? model.review.least_certainty : model.review.thresholds.get(score.label);
  const { reason, label } = score;
  if (reason === "blank") return say("reason_blank");
  if (reason === "unreadable") return say("reason_unreadable", { share: percent(score.unknown_share) });
  if (reason === "new question") return say("reason_new_question");
  if (reason === "unlike training" && isUnmeasured(score, model)) return say("reason_unmeasured");
  if (reason === "unlike training" && !isTooNovel(score, model)) {
    const { min_letters: least, scripts } = model.review;
    return say("reason_script", { share: percent(least), scripts: scripts.join(", ") });
  }
  if (reason === "unlike training") {
    const [novelty, limit] = distinctNumbers(score.novelty, model.review.max_novelty);
    return say("reason_novel", { novelty, limit });
  }
  if (reason === "truncated") return say("reason_truncated", { tokens: score.tokens });
  if (reason === "below threshold" && threshold >= NEVER_ACCEPTED) {
    return isMultilabel(model) ? say("reason_never") : say("reason_never_label", { label });
  }
  if (reason === "below threshold") {
    const [share, least] = distinctPercents(score.probability, threshold);
    if (isMultilabel(model)) {
      return say("reason_certainty", { label: leastCertain(score, model), share, threshold: least });
    }
    return say("reason_probability", { label, share, threshold: least });
  }
  if (reason) return say("reason_other", { reason });
  if (isMultilabel(model)) {
    const least = leastCertain(score, model);
    if (!threshold) return say("least_certain", { label: least });
    return say("reached_certainty", { label: least, threshold: percent(threshold) });
  }
  return threshold ? say("reached_probability", { label, threshold: percent(threshold) }) : say("most_probable", { label });
}

/** For which questions the decision rule was shown; "" if there are no questions, or it is not recorded. */
export function contextsNote({ contexts, review }) {
  if (!contexts) return "";
  const questions = say("questions", { count: contexts.distinct });
  if (!contexts.closed) return say("contexts_open", { questions, rows: contexts.rows });
  return say(review.new_question ? "contexts_review" : "contexts_alike", { questions });
}

/** Which responses are too far from the training texts; "" if that is not limited. */
export function noveltyNote({ novelty, review }) {
  const limit = review.max_novelty;
  if (!novelty || limit === null || limit === undefined) return "";
  return say("novelty_limit", { limit: limit.toPrecision(3) });
}

/** What is promised of the accepted responses; "" for a bundle that does not say. */
export function promiseNote({ promise }) {
  return promise ?? "";
}

/** The number of tokens that the model read. */
export function tokensText(score) {
  const parts = [say(score.truncated ? "tokens_truncated" : "tokens_read", { count: score.tokens })];
  if (score.unknown_share > 0) parts.push(say("tokens_unknown", { share: percent(score.unknown_share) }));
  const { context_tokens: all, context_tokens_lost: lost } = score;
  if (lost > 0) parts.push(say("tokens_lost", { lost, all }));
  return parts.join(" ");
}

/** The message for a failed request. */
export function errorMessage(error) {
  if (error.status === 401 || error.status === 403) return "This server requires a valid API key.";
  if (error.status === 429 || error.status === 503) return `The server is busy. Try again in ${error.retryAfter} s.`;
  return error.message;
}
