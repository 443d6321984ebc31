// The hash of a response's context, like `edgedistill_serve.task.contexts.context_hash`.

/** Returns `hash(context) -> 32 hexadecimal digits`; `patterns` is `invisible` of page.json. */
export function contextHash(patterns) {
  const spaces = new RegExp(patterns.spaces, "gu");
  return (context) => {
    const compatible = context.replace(/[²³¹\u2070-\u207f]/gu, "^$&").normalize("NFKC");
    const normalized = compatible.replace(spaces, " ").replace(/(?<![0-9]) | (?![0-9])/gu, "").toLowerCase();
    return sha256(normalized).slice(0, 32);
  };
}

const ROUND_CONSTANTS = fractions(64, Math.cbrt);
const START = fractions(8, Math.sqrt);

/** The first 32 bits of the fractional parts of a root of the first primes. */
function fractions(count, root) {
  const found = [];
  for (let number = 2; found.length < count; number += 1) {
    let divisor = 2;
    while (number % divisor) divisor += 1;
    if (divisor === number) found.push(Math.floor((root(number) % 1) * 2 ** 32) | 0);
  }
  return found;
}

/** SHA-256 (FIPS 180-4) of a text in UTF-8, in hexadecimal digits. `crypto.subtle` is missing on plain http. */
export function sha256(text) {
  const content = new TextEncoder().encode(text);
  const padded = new Uint8Array((((content.length + 8) >> 6) + 1) << 6);
  padded.set(content);
  padded[content.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(content.length / 2 ** 29));
  view.setUint32(padded.length - 4, (content.length << 3) >>> 0);
  const state = Int32Array.from(START);
  const words = new Int32Array(64);
  for (let block = 0; block < padded.length; block += 64) {
    for (let at = 0; at < 16; at += 1) words[at] = view.getInt32(block + 4 * at);
    for (let at = 16; at < 64; at += 1) {
      const [one, other] = [words[at - 15], words[at - 2]];
      const small = turned(one, 7) ^ turned(one, 18) ^ (one >>> 3);
      const large = turned(other, 17) ^ turned(other, 19) ^ (other >>> 10);
      words[at] = words[at - 16] + small + words[at - 7] + large;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let at = 0; at < 64; at += 1) {
      const large = turned(e, 6) ^ turned(e, 11) ^ turned(e, 25);
      const first = (h + large + ((e & f) ^ (~e & g)) + ROUND_CONSTANTS[at] + words[at]) | 0;
      const second = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      [a, b, c, d, e, f, g, h] = [(first + second) | 0, a, b, c, (d + first) | 0, e, f, g];
    }
    [a, b, c, d, e, f, g, h].forEach((value, at) => (state[at] += value));
  }
  return Array.from(state, (value) => (value >>> 0).toString(16).padStart(8, "0")).join("");
}

function turned(value, bits) {
  return (value >>> bits) | (value << (32 - bits));
}
