// Reports to a learning management system that speaks SCORM 1.2, if the page is part of a course: that it was opened and
// used, and for how long. It reports no text and no score.

const MOST_PARENTS = 50;
const TRUE = "true";

/** Start the lesson; returns `{ used() }`, which is called when the page has scored something. */
export function startLesson() {
  const api = found(window) ?? (window.opener ? found(window.opener) : null);
  if (!api || String(api.LMSInitialize("")) !== TRUE) return { used() {} };
  const started = Date.now();
  let isOver = false;
  if (api.LMSGetValue("cmi.core.lesson_status") === "not attempted") set(api, "cmi.core.lesson_status", "incomplete");
  addEventListener("pagehide", () => {
    if (isOver) return;
    isOver = true;
    api.LMSSetValue("cmi.core.session_time", timespan(Date.now() - started));
    api.LMSCommit("");
    api.LMSFinish("");
  });
  return {
    used() {
      const status = api.LMSGetValue("cmi.core.lesson_status");
      if (!isOver && status !== "completed" && status !== "passed") set(api, "cmi.core.lesson_status", "completed");
    },
  };
}

function set(api, name, value) {
  api.LMSSetValue(name, value);
  api.LMSCommit("");
}

/** The API object of a window or of one around it; null if there is none, or another site's window is in between. */
function found(start) {
  try {
    for (let place = 0, each = start; place < MOST_PARENTS; place += 1, each = each.parent) {
      if (each.API) return each.API;
      if (each.parent === each) return null;
    }
  } catch {
    // Windows of other sites cannot be looked into.
  }
  return null;
}

/** A time as SCORM 1.2 writes it: HHHH:MM:SS. */
function timespan(milliseconds) {
  const seconds = Math.round(milliseconds / 1000);
  const two = (value) => String(value).padStart(2, "0");
  return `${String(Math.floor(seconds / 3600)).padStart(4, "0")}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}
