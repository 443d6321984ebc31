// Stores the page on this device for offline use, and offers new versions.
import { at } from "./elements.mjs";
import { say } from "./language.mjs";
import { inEveryLanguage } from "./languages.mjs";
import { isOneFile } from "./places.mjs";

let state = null;

/** Install the service worker and show its state. */
export async function keepOffline() {
  inEveryLanguage(() => (at("offline").textContent = state ? say(state) : ""));
  if (isOneFile) {
    show("offline_single");
    return;
  }
  if (!("serviceWorker" in navigator)) {
    show("offline_unsupported");
    return;
  }
  try {
    const registered = await navigator.serviceWorker.register("sw.mjs", { updateViaCache: "none" });
    registered.addEventListener("updatefound", () => follow(registered));
    follow(registered);
  } catch {
    show("offline_refused");
  }
}

function show(key) {
  state = key;
  at("offline").textContent = say(key);
}

function follow(registered) {
  const { installing, waiting, active } = registered;
  if (active) show("offline_stored");
  if (waiting && active) offer(waiting);
  if (!installing) return;
  if (!active) show("offline_storing");
  installing.addEventListener("statechange", () => {
    if (installing.state === "redundant" && !registered.active) show("offline_failed");
    else follow(registered);
  });
}

function offer(waiting) {
  show("offline_newer");
  at("renew").hidden = false;
  at("renew").addEventListener("click", () => {
    navigator.serviceWorker.addEventListener("controllerchange", () => location.reload());
    waiting.postMessage("take over");
  });
}
