// The texts of the page.

/** The label of a multilabel response to which no label applies. */
export const NO_LABEL = "none";
const SEPARATOR = ";";
/** A threshold that no probability reaches, like `edgedistill_serve.bundle.manifest.NEVER_ACCEPTED`. */
const NEVER_ACCEPTED = 2;

/** A probability in [0, 1] as text; it is never rounded to 0 % or 100 %. */
export function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  if (share < 1 && share > 0.999) return "> 99.9 %";
  return `${(100 * share).toFixed(1)} %`;
}

/** Two different probabilities, with enough digits to differ as texts. */
function distinctPercents(one, other) {
  if (percent(one) !== percent(other)) return [percent(one), percent(other)];
  const digits = [2, 3, 4, 5, 6].find((each) => (100 * one).toFixed(each) !== (100 * other).toFixed(each)) ?? 6;
  return [`${(100 * one).toFixed(digits)} %`, `${(100 * other).toFixed(digits)} %`];
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

/** The decision on a score. */
export function decision(score) {
  return score.decision === "accept" ? "Accepted" : "Review by a person";
}

/** The label of a score as a list; for a multilabel task, the assigned labels. */
export function labelsOf({ label, probabilities }) {
  if (probabilities.has(label)) return [label];
  return label === NO_LABEL ? [] : label.split(SEPARATOR);
}

/** The labels of a score as one text. */
export function labelText(score) {
  return labelsOf(score).join(", ") || "No label applies";
}

/** The probability of a score's label; for a multilabel task, the smallest certainty of any label. */
export function probabilityText(score, model) {
  return isMultilabel(model) ? `at least ${percent(score.probability)} certain` : percent(score.probability);
}

/** The caption of the bars. */
export function caption(model) {
  if (!isMultilabel(model)) return model.calibrated ? "Calibrated probabilities" : "Probabilities, not calibrated";
  return `Probability of each label, ${model.calibrated ? "" : "not "}calibrated; the mark is its threshold`;
}

/** The threshold of a label, as a sentence. */
export function thresholdNote(label, model) {
  if (isMultilabel(model)) return ` Assigned from ${percent(model.thresholds.get(label))}.`;
  const threshold = model.review.thresholds.get(label);
  if (threshold >= NEVER_ACCEPTED) return " Never accepted without a person.";
  return threshold ? ` Accepted from ${percent(threshold)}.` : "";
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

/** The reason of the decision on a score. */
export function decisionReason(score, model) {
  const threshold = isMultilabel(model) ? model.review.least_certainty : model.review.thresholds.get(score.label);
  if (score.reason === "blank") return "The response is blank.";
  if (score.reason === "unreadable") {
    return `The model cannot read ${percent(score.unknown_share)} of the response: its vocabulary does not have this text.`;
  }
  if (score.reason === "new question") return "The decision rule was not shown for this question.";
  if (score.reason === "unlike training" && !isTooNovel(score, model)) {
    const { min_letters: least, scripts } = model.review;
    return `Less than ${percent(least)} of the response are letters of the script of the texts that the model was trained on (${scripts.join(", ")}).`;
  }
  if (score.reason === "unlike training") {
    const [novelty, limit] = distinctNumbers(score.novelty, model.review.max_novelty);
    return `The response is unlike those that the model was trained on: ${novelty} times the typical distance from them, above the limit of ${limit}.`;
  }
  if (score.reason === "truncated") {
    return `The response has ${score.tokens} tokens, more than the model can read. Only its beginning was scored.`;
  }
  if (score.reason === "below threshold" && threshold >= NEVER_ACCEPTED) {
    return isMultilabel(model)
      ? "The decision rule accepts no response without a person."
      : `The decision rule accepts no response with “${score.label}” without a person.`;
  }
  if (score.reason === "below threshold") {
    const [probability, least] = distinctPercents(score.probability, threshold);
    if (isMultilabel(model)) {
      return `The decision on “${leastCertain(score, model)}” has a certainty of ${probability}, below the threshold of ${least}.`;
    }
    return `The probability, ${probability}, is below the threshold of ${least} for “${score.label}”.`;
  }
  if (score.reason) return `The review rule of the model says: ${score.reason}.`;
  if (isMultilabel(model)) {
    const least = `“${leastCertain(score, model)}” is the label with the smallest certainty`;
    return threshold ? `${least}; it reaches the threshold of ${percent(threshold)}.` : `${least}.`;
  }
  if (threshold) return `The probability reaches the threshold of ${percent(threshold)} for “${score.label}”.`;
  return `“${score.label}” is the most probable label. The model has no threshold for it.`;
}

/** For which questions the decision rule was shown; "" if there are no questions, or it is not recorded. */
export function contextsNote({ contexts, review }) {
  if (!contexts) return "";
  const questions = contexts.distinct === 1 ? "1 question" : `${contexts.distinct} questions`;
  if (!contexts.closed) return `The decision rule was shown for open questions (${questions} in ${contexts.rows} rows).`;
  const others = review.new_question ? "responses to others go to a person" : "responses to others are treated alike";
  return `The decision rule was shown for ${questions}; ${others}.`;
}

/** Which responses are too far from the training texts; "" if that is not limited. */
export function noveltyNote({ novelty, review }) {
  const limit = review.max_novelty;
  if (!novelty || limit === null || limit === undefined) return "";
  return `Responses at more than ${limit.toPrecision(3)} times the typical distance from the training texts go to a person.`;
}

/** What is promised of the accepted responses; "" for a bundle that does not say. */
export function promiseNote({ promise }) {
  return promise ?? "";
}

/** The number of tokens that the model read. */
export function tokensText(score) {
  const tokens = score.tokens === 1 ? "1 token" : `${score.tokens} tokens`;
  const read = score.truncated ? `${tokens}, truncated to what the model can read.` : `${tokens}, all of them read.`;
  const unknown = score.unknown_share > 0 ? ` ${percent(score.unknown_share)} of the response is unknown to the model.` : "";
  const { context_tokens: all, context_tokens_lost: lost } = score;
  const cut = lost > 0 ? ` The model did not read ${lost} of the ${all} tokens before the response (question, reference answers, rubric).` : "";
  return read + unknown + cut;
}

/** The message for a failed request. */
export function errorMessage(error) {
  if (error.status === 401 || error.status === 403) return "This server requires a valid API key.";
  if (error.status === 429 || error.status === 503) return `The server is busy. Try again in ${error.retryAfter} s.`;
  return error.message;
}
