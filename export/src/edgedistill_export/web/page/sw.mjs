// Serves the page from a cache, so that it opens offline. KEPT, written above, describes the cached files:
// `cache` is the name of this version's cache, `ancestors` says who may show the page inside another page (the page itself
// checks that, too: the first load comes without these headers), `files` has each path's SHA-256 and media type.

const HEADERS = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; img-src 'self'; " +
    `connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors ${KEPT.ancestors}`,
  // A page with this header only loads workers that have it too.
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Opener-Policy": "same-origin",
  // Some of the pages that may show this one need its permission in this header, too.
  "Cross-Origin-Resource-Policy": KEPT.ancestors === "'none'" ? "same-origin" : "cross-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
};
const ROOT = new URL("./", self.location).href;
const CACHE = `${KEPT.cache} ${ROOT}`;

async function keep() {
  const cache = await caches.open(CACHE);
  for (const [path, { integrity }] of Object.entries(KEPT.files)) {
    // With the integrity, the browser rejects a file that has changed.
    const file = await fetch(new Request(ROOT + path, { cache: "no-cache", credentials: "omit", integrity }));
    if (!file.ok) throw new Error(`${path}: ${file.status}`);
    await cache.put(ROOT + path, file);
  }
}

async function forgetOthers() {
  const ours = (name) => name.startsWith("edgedistill ") && name.endsWith(` ${ROOT}`);
  const old = (await caches.keys()).filter((name) => ours(name) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.clients.claim();
}

async function kept(path) {
  const cache = await caches.open(CACHE);
  const file = await cache.match(ROOT + path);
  if (!file) return fetch(ROOT + path, { cache: "no-cache" });
  return new Response(file.body, { headers: { ...HEADERS, "Content-Type": KEPT.files[path].type } });
}

self.addEventListener("install", (event) => event.waitUntil(keep()));
self.addEventListener("activate", (event) => event.waitUntil(forgetOthers()));
self.addEventListener("message", (event) => event.data === "take over" && self.skipWaiting());
self.addEventListener("fetch", (event) => {
  const address = event.request.url.split(/[?#]/)[0];
  const path = address === ROOT ? "index.html" : address.slice(ROOT.length);
  if (event.request.method !== "GET" || !address.startsWith(ROOT) || !Object.hasOwn(KEPT.files, path)) return;
  event.respondWith(kept(path));
});
