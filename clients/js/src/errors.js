// The errors of the client, with the names that they have in the Python client.

/** A request failed. `status` is the HTTP status of the answer, or null without an answer. */
export class ClientError extends Error {
  constructor(message, { status = null, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.status = status;
  }
}

/** There was no answer to any attempt. */
export class Unreachable extends ClientError {}

/** The server had no capacity at any attempt. */
export class Busy extends ClientError {}

/** The server does not accept the request: key, model, schema or size. A retry would not help. */
export class Refused extends ClientError {}

/** The server failed on the request. */
export class ServerFailed extends ClientError {}

/** The answer comes from another kind of server, or from another version. */
export class StrangeAnswer extends ClientError {}

// Names that stay when a build shortens those of classes.
for (const [name, kind] of Object.entries({ ClientError, Unreachable, Busy, Refused, ServerFailed, StrangeAnswer })) {
  Object.defineProperty(kind.prototype, "name", { value: name, configurable: true, writable: true });
}
