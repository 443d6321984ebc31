/** The web component `<edgedistill-score>`; importing this module defines it. */
import type { Client, ClientError, Scored } from "./client.js";

/** The texts of the element, by key. */
export interface ScoreTexts {
  question: string;
  reference_answer: string;
  rubric: string;
  response: string;
  score: string;
  scoring: string;
  accept: string;
  unvalidated: string;
  review: string;
  none: string;
  probabilities: string;
  label: string;
  probability: string;
  blank: string;
  unreadable: string;
  truncated: string;
  "new question": string;
  "unlike training": string;
  "below threshold": string;
  "not validated": string;
  busy: string;
  unreachable: string;
  refused: string;
  failed: string;
}

/**
 * A form for one response and its score.
 *
 * Attributes: `server`, `model`, `question`, `reference-answer`, `rubric`.
 * Parts: `form`, `field`, `label`, `input`, `button`, `result`, `decision`, `decision-accept`, `decision-review`,
 * `decision-unvalidated`, `reason`, `probabilities`, `bar`, `problem`.
 */
export class EdgedistillScore extends HTMLElement {
  /** The client that sends the requests; by default one for the attributes `server` and `model`, without a key. */
  get client(): Client;
  set client(client: Client);
  /** The texts of the element; those that are not given stay as they are. */
  get texts(): ScoreTexts;
  set texts(texts: Partial<ScoreTexts>);
  /** The text of the response. */
  value: string;
  /** The last result; null before the first one. */
  readonly result: Scored | null;
  /** Score the response, show its score, and return the result; a call during another one replaces it. */
  score(): Promise<Scored>;
}

declare global {
  interface HTMLElementTagNameMap {
    "edgedistill-score": EdgedistillScore;
  }
  interface GlobalEventHandlersEventMap {
    "edgedistill-score": CustomEvent<Scored>;
    "edgedistill-error": CustomEvent<ClientError>;
  }
}
