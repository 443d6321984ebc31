// Scores in plain words.

const NO_LABEL = "none";
const SEPARATOR = ";";

/** A probability in [0, 1] as text: never rounded up to certain or down to impossible. */
export function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  if (share < 1 && share > 0.999) return "> 99.9 %";
  return `${(100 * share).toFixed(1)} %`;
}

/** Two different probabilities as two different texts. */
function apart(one, other) {
  if (percent(one) !== percent(other)) return [percent(one), percent(other)];
  const digits = [2, 3, 4, 5, 6].find((each) => (100 * one).toFixed(each) !== (100 * other).toFixed(each)) ?? 6;
  return [`${(100 * one).toFixed(digits)} %`, `${(100 * other).toFixed(digits)} %`];
}

/** A difference of two probabilities, in percentage points. */
export function points(change) {
  const shown = (100 * Math.abs(change)).toFixed(1);
  return shown === "0.0" ? "0.0" : `${change > 0 ? "+" : "−"}${shown}`;
}

/** What is to be done with a score. */
export function decision(score) {
  return score.decision === "accept" ? "Accepted" : "For a person to review";
}

/** The label of a score, alone; of a multilabel task those that hold, if any. */
export function labelsOf({ label, probabilities }) {
  if (label in probabilities) return [label];
  return label === NO_LABEL ? [] : label.split(SEPARATOR);
}

/** The labels of a score as its headline. */
export function named(score) {
  return labelsOf(score).join(", ") || "No label holds";
}

/** How probable a score's label is, or how sure it is of every label whether it holds. */
export function sureness(score, model) {
  return isMultilabel(model) ? `at least ${percent(score.probability)} certain` : percent(score.probability);
}

/** What the bars show. */
export function caption(model) {
  if (!isMultilabel(model)) return model.calibrated ? "Calibrated probabilities" : "Probabilities, not calibrated";
  return `Probability that each label holds, ${model.calibrated ? "" : "not "}calibrated; the mark is its threshold`;
}

/** From which probability on a label holds, or is accepted. */
export function needs(label, model) {
  if (isMultilabel(model)) return ` Holds from ${percent(model.thresholds[label])}.`;
  const least = model.review.thresholds[label];
  return least ? ` Accepted from ${percent(least)}.` : "";
}

/** The label of a multilabel task of which it is least certain whether it holds. */
export function leastSure({ probabilities }, { thresholds }) {
  const sure = Object.entries(probabilities).map(([label, share]) => [label, certainty(share, thresholds[label])]);
  return sure.reduce((one, other) => (other[1] < one[1] ? other : one))[0];
}

/** As `edgedistill_serve.task.label_decoding.certainty`. */
function certainty(share, threshold) {
  return 0.5 + (0.5 * Math.abs(share - threshold)) / (share >= threshold ? 1 - threshold : threshold);
}

export function isMultilabel(model) {
  return model.kind === "multilabel";
}

/** Why a score is accepted or goes to a person. */
export function why(score, model) {
  const threshold = isMultilabel(model) ? model.review.least_certainty : model.review.thresholds[score.label];
  if (score.reason === "blank") return "There is nothing to read in this response.";
  if (score.reason === "truncated") {
    return `The response is longer than the model can read: only its beginning, of ${score.tokens} tokens, was judged.`;
  }
  if (score.reason === "below threshold") {
    const [probability, least] = apart(score.probability, threshold);
    if (isMultilabel(model)) {
      return `Whether “${leastSure(score, model)}” holds is ${probability} certain, below the ${least} that this model needs.`;
    }
    return `The probability, ${probability}, is below the ${least} that “${score.label}” needs.`;
  }
  if (score.reason) return `The model's review rule says: ${score.reason}.`;
  if (isMultilabel(model)) {
    const least = `“${leastSure(score, model)}” is the label that is least sure`;
    return threshold ? `${least}; it reaches the ${percent(threshold)} that this model needs.` : `${least}.`;
  }
  if (threshold) return `The probability reaches the ${percent(threshold)} that “${score.label}” needs.`;
  return `“${score.label}” is the most probable label, and this model sets no threshold for it.`;
}

/** How much of the response the model read. */
export function reading(score) {
  const tokens = score.tokens === 1 ? "1 token" : `${score.tokens} tokens`;
  return score.truncated ? `${tokens}, cut to what the model can read.` : `${tokens}, all of them read.`;
}

/** A refusal with what the reader can do about it. */
export function refusal(error) {
  if (error.status === 401 || error.status === 403) return "This server wants a valid API key.";
  if (error.status === 429 || error.status === 503) return `The server is busy. Try again in ${error.retryAfter} s.`;
  return error.message;
}
