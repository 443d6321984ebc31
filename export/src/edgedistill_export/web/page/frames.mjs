// Whether the page may be shown inside the page that shows it: by the same list as the service worker's `frame-ancestors`.

/** The origin that shows the page and may not, "" if it is unknown; null if none does. `embedders` is that of page.json. */
export function embedder(embedders) {
  if (window.parent === window || embedders.includes("*")) return null;
  const isOwn = (origin) => embedders.length > 0 && origin === location.origin;
  return ancestors().find((origin) => !isOwn(origin) && !embedders.some((each) => isMatch(origin, each))) ?? null;
}

/** The origins of the pages around this one; only the next one is known where the browser has no list of them. */
function ancestors() {
  if (location.ancestorOrigins) return [...location.ancestorOrigins];
  try {
    return [new URL(document.referrer).origin];
  } catch {
    return [""];
  }
}

/** Whether an origin is one of a source: an origin, or scheme, `*.` and a domain for every site below that. */
function isMatch(origin, source) {
  const [scheme, host] = source.split("://");
  if (!host.startsWith("*.")) return origin === source;
  return origin.startsWith(`${scheme}://`) && origin.endsWith(host.slice(1));
}
