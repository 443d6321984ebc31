// Keeps the page on this device, so that it opens without a network, and offers a newer version where there is one.
import { at } from "./elements.mjs";

/** Install the service worker and say what became of it. */
export async function keepOffline() {
  if (!("serviceWorker" in navigator)) {
    at("offline").textContent =
      "Not kept for use without a network: that needs https, or http://127.0.0.1 or http://localhost.";
    return;
  }
  try {
    const registered = await navigator.serviceWorker.register("sw.mjs", { updateViaCache: "none" });
    registered.addEventListener("updatefound", () => follow(registered));
    follow(registered);
  } catch {
    at("offline").textContent = "Not kept for use without a network: this browser does not allow it here.";
  }
}

function follow(registered) {
  const { installing, waiting, active } = registered;
  if (active) at("offline").textContent = "Kept on this device: it opens without a network too.";
  if (waiting && active) offer(waiting);
  if (!installing) return;
  if (!active) at("offline").textContent = "Being kept on this device…";
  installing.addEventListener("statechange", () => {
    if (installing.state === "redundant" && !registered.active) {
      at("offline").textContent = "Not kept for use without a network: a file could not be kept.";
    } else follow(registered);
  });
}

function offer(waiting) {
  at("offline").textContent = "A newer version of this page is here.";
  at("renew").hidden = false;
  at("renew").addEventListener("click", () => {
    navigator.serviceWorker.addEventListener("controllerchange", () => location.reload());
    waiting.postMessage("take over");
  });
}
