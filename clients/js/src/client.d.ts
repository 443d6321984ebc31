/** A client of one `edgedistill-serve` server, for browsers and Node 20. It has no dependencies. */

/** The text of a response, or an object with the task's inputs. */
export type Response = string | Inputs;

export interface Inputs {
  response: string;
  question?: string;
  reference_answer?: string;
  rubric?: string;
  /** Id of the response, with which a journal of the server names it if it is drawn for people to code. */
  id?: string | number;
  /** Item that is answered, for the journal of a task without question. */
  item?: string | number;
}

export type Reason = "blank" | "unreadable" | "truncated" | "new question" | "unlike training" | "below threshold";

/** The score of one response, as the server sends it. */
export interface Score {
  /** The most probable label; for a multilabel task, the assigned labels, as in `asks;praises`, or `none`. See `labelsOf`. */
  label: string;
  /** Probability of the label, in [0, 1]; for a multilabel task, the smallest certainty of any label. */
  probability: number;
  /** Probability of every label; for a multilabel task, they do not sum to 1. `ServedModel.labels` has their order. */
  probabilities: Record<string, number>;
  /** Whether a person should look at the response. */
  decision: "accept" | "review";
  /** Reason for a review; null for an accepted response. */
  reason: Reason | null;
  /** Whether the model read only the beginning of the response. */
  truncated: boolean;
  /** Number of tokens of the response. */
  tokens: number;
  /** Share of the response that the model's vocabulary cannot represent, in [0, 1]. */
  unknown_share: number;
  /** Number of tokens of what the model reads before the response (question, reference answers, rubric). */
  context_tokens: number;
  /** Number of them that the model did not read, because the input was too long. */
  context_tokens_lost: number;
  /** Distance of the response from the training texts, 1 for a typical one; null if the model does not measure it. */
  novelty: number | null;
  /** Whether test rows support the use of the label; absent in answers of older servers, which counts as not validated. */
  verdict?: "validated" | "not validated";
}

export interface Scored {
  /** Name and version of the model that scored the response. */
  model: string;
  version: string;
  score: Score;
  error?: undefined;
}

/** A response that the server could not score; other responses are not affected. */
export interface NotScored {
  model: string | null;
  version: string | null;
  /** The reason; it never contains text of the response. */
  error: string;
  score?: undefined;
}

export type Result = Scored | NotScored;

/** Effect of one word on the score. */
export interface WordEffect {
  word: string;
  /** Position of its first character, and after its last one, in code points. */
  start: number;
  end: number;
  /** Label of the response without the word. */
  label: string;
  /** For each label, its probability with the word minus its probability without it. */
  changes: Record<string, number>;
}

export interface Explained extends Scored {
  words: WordEffect[];
}

/** What locked test rows say about the use of a model. */
export interface BundleVerdict {
  status: "validated" | "validated for some labels" | "validated with human review" | "inconclusive" | "not validated";
  /** The verdict as a sentence, and the figures behind it. */
  headline: string;
  reason: string;
  /** The labels that the verdict covers. */
  labels: string[];
}

/** A model of the server; it has further properties, as the server's `/docs` says. */
export interface ServedModel {
  name: string;
  version: string;
  kind: "nominal" | "ordinal" | "multilabel";
  /** The labels in codebook order. */
  labels: string[];
  /** The codebook's definition of each label. */
  definitions: Record<string, string>;
  /** The inputs of a response. */
  inputs: ("response" | "question" | "reference_answer" | "rubric")[];
  /** Longest sequence that the model reads. */
  max_tokens: number;
  /** Whether the probabilities are calibrated. */
  calibrated: boolean;
  /** For a multilabel task, the probability from which each label is assigned. */
  thresholds: Record<string, number>;
  /** Absent in answers of older servers, which counts as not validated. */
  verdict?: BundleVerdict;
  [property: string]: unknown;
}

export interface RetriesOptions {
  /** Largest number of attempts, including the first one; 5 by default. */
  tries?: number;
  /** Milliseconds before the second attempt; each later wait is twice as long, shortened at random by up to a half. 250. */
  firstWait?: number;
  /** Largest wait in milliseconds; if the server asks for a longer one, the client gives up. 30,000. */
  longestWait?: number;
  /** Returns a random number in [0, 1). */
  random?: () => number;
}

/** The retry policy. Scoring changes nothing on the server, so that retries are safe. */
export class Retries {
  constructor(options?: RetriesOptions);
  /** The milliseconds to wait after `failed` attempts, of which the last answer had this `Retry-After`. */
  wait(failed: number, retryAfter?: number): number;
}

export interface ClientOptions {
  /** `NAME` or `NAME@VERSION`; not needed for the only model, or the default of the server. */
  model?: string;
  /** API key. Whoever can read a page can read the key in it. */
  key?: string;
  retries?: Retries | RetriesOptions;
  /** Milliseconds after which an attempt fails if nothing arrives; 60,000 by default. */
  timeout?: number;
  /** Used instead of the global `fetch`. */
  fetch?: typeof fetch;
}

export interface RequestOptions {
  /** Aborts the request and its retries; the promise is rejected with the signal's reason. */
  signal?: AbortSignal;
}

/**
 * A client of one server.
 *
 * Its promises are rejected with `Unreachable` (no answer to any attempt), `Busy` (no capacity at any attempt), `Refused`
 * (key, model, schema or size), `ServerFailed` (the server failed on the response) or `StrangeAnswer` (another kind of
 * server), all of them a `ClientError`; or with the reason of the signal.
 */
export class Client {
  /** @throws {Refused} The address, the key or another option is invalid. */
  constructor(url: string | URL, options?: ClientOptions);
  /** Address of the server, without a final slash. */
  readonly url: string;
  /** Name of the model in requests; undefined for the only one, or the default of the server. */
  readonly model: string | undefined;
  /** List the models of the server. */
  models(options?: RequestOptions): Promise<ServedModel[]>;
  /** Score one response. */
  score(response: Response, options?: RequestOptions): Promise<Scored>;
  /** Score one response, and explain the score by the effect of each word. */
  explain(response: Response, options?: RequestOptions): Promise<Explained>;
  /** Score a list, in as many requests as the limits of the server require; `object` excludes one text. */
  scoreMany(responses: Iterable<Response> & object, options?: RequestOptions): Promise<Result[]>;
  /** Score any number of responses in the bulk lane of the server, in constant memory, and yield the results in order. */
  scoreStream(
    responses: (Iterable<Response> & object) | AsyncIterable<Response>,
    options?: RequestOptions,
  ): AsyncGenerator<Result, void, undefined>;
}

/** The labels of a score as a list: of a multilabel task, the assigned ones, possibly none. */
export function labelsOf(score: Pick<Score, "label" | "probabilities">): string[];

/** A request failed. */
export class ClientError extends Error {
  /** HTTP status of the answer; null without an answer. */
  readonly status: number | null;
}
/** There was no answer to any attempt. */
export class Unreachable extends ClientError {}
/** The server had no capacity at any attempt. */
export class Busy extends ClientError {}
/** The server does not accept the request, so that a retry would not help. */
export class Refused extends ClientError {}
/** The server failed on the request. */
export class ServerFailed extends ClientError {}
/** The answer comes from another kind of server, or from another version. */
export class StrangeAnswer extends ClientError {}
