// Stores the page on this device for offline use, and offers new versions.
import { at } from "./elements.mjs";

/** Install the service worker and show its state. */
export async function keepOffline() {
  if (!("serviceWorker" in navigator)) {
    at("offline").textContent =
      "Not available offline: this requires https, http://127.0.0.1 or http://localhost.";
    return;
  }
  try {
    const registered = await navigator.serviceWorker.register("sw.mjs", { updateViaCache: "none" });
    registered.addEventListener("updatefound", () => follow(registered));
    follow(registered);
  } catch {
    at("offline").textContent = "Not available offline: this browser does not allow it here.";
  }
}

function follow(registered) {
  const { installing, waiting, active } = registered;
  if (active) at("offline").textContent = "Stored on this device: the page also opens offline.";
  if (waiting && active) offer(waiting);
  if (!installing) return;
  if (!active) at("offline").textContent = "Storing the page on this device…";
  installing.addEventListener("statechange", () => {
    if (installing.state === "redundant" && !registered.active) {
      at("offline").textContent = "Not available offline: a file could not be stored.";
    } else follow(registered);
  });
}

function offer(waiting) {
  at("offline").textContent = "A new version of this page is available.";
  at("renew").hidden = false;
  at("renew").addEventListener("click", () => {
    navigator.serviceWorker.addEventListener("controllerchange", () => location.reload());
    waiting.postMessage("take over");
  });
}
