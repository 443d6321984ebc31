"""A real Chromium, controlled by the WebDriver protocol (W3C) and by Chromium's own protocol."""

import base64
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The name by which the protocol refers to an element."""
KEYS = {"tab": "\ue004", "enter": "\ue007", "control": "\ue009", "shift": "\ue008", "space": " ", "down": "\ue015"}
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
PATIENCE = 60


class Browser:
    """One Chromium with one tab and a profile of its own."""

    def __init__(self, folder: Path) -> None:
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        assert chromium, "The page's tests need Chromium: apt-get install chromium chromium-driver"
        assert driver, "The page's tests need Chromium's driver: apt-get install chromium-driver"
        with (folder / "driver.log").open("wb") as log:
            self.process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=log, text=True)
        port = next(
            int(found[1]) for line in self.process.stdout if (found := re.search(r"successfully on port (\d+)", line))
        )
        self._wire = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
        options = {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={folder / 'profile'}"]}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        self._session = ""
        self._session = "/session/" + self._send("POST", "/session", {"capabilities": wanted})["sessionId"]

    def _send(self, method: str, path: str, content: dict[str, Any] | None = None) -> Any:
        body = {"json": content or {}} if method == "POST" else {}
        answer = self._wire.request(method, self._session + path, **body)
        found = answer.json()["value"]
        assert answer.status_code == 200, found["message"]
        return found

    def open(self, url: str) -> None:
        """Load a page."""
        self._send("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page; the arguments are `arguments[0]` and so on."""
        return self._send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def until(self, script: str, *arguments: Any) -> Any:
        """Wait for the expression to be true, and return what it gives."""
        last = time.monotonic() + PATIENCE
        while not (found := self.run(f"return {script}", *arguments)):
            assert time.monotonic() < last, f"{script} did not come true; the page says: {self.text('body')}"
            time.sleep(0.03)
        return found

    def find(self, selector: str) -> str:
        """Return the protocol's name of an element."""
        return self._send("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def text(self, selector: str) -> str:
        """Return the text of an element as it is shown."""
        return self._send("GET", f"/element/{self.find(selector)}/text")

    def type(self, selector: str, text: str) -> None:
        """Type into a field, as from a keyboard."""
        self._send("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def click(self, selector: str) -> None:
        """Click in the middle of an element, which fails where something covers it."""
        self._send("POST", f"/element/{self.find(selector)}/click")

    def press(self, *names: str) -> None:
        """Press keys together, by their names in `KEYS`."""
        keys = [KEYS[name] for name in names]
        steps = [{"type": "keyDown", "value": key} for key in keys]
        steps += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self._send("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": steps}]})

    def keys(self, characters: str) -> None:
        """Press keys one after another, wherever the focus is; letters, digits, and values of `KEYS`."""
        steps = [{"type": kind, "value": key} for key in characters for kind in ("keyDown", "keyUp")]
        self._send("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": steps}]})

    def role_and_name(self, selector: str) -> tuple[str, str]:
        """Return what a screen reader says an element is, and how it calls it."""
        element = self.find(selector)
        found = [self._send("GET", f"/element/{element}/computed{what}") for what in ("role", "label")]
        return found[0], found[1]

    def complaints(self) -> list[str]:
        """Return the console messages since the last call: errors, and violations of the content policy."""
        entries = self._send("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in {"SEVERE", "WARNING"}]

    def chromium(self, command: str, **parameters: Any) -> Any:
        """Send a command of Chromium's own protocol."""
        return self._send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def resize(self, width: int, height: int) -> None:
        """Show the page as on a screen of this size in CSS pixels."""
        self.chromium(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def prefer(self, **features: str) -> None:
        """Show the page to somebody with these preferences, such as ``color_scheme="dark"``; others are reset."""
        wanted = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self.chromium("Emulation.setEmulatedMedia", features=wanted)

    def picture(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        shown = self.chromium("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shown["data"]))

    def close(self) -> None:
        """End Chromium and its driver."""
        self._send("DELETE", "")
        self._wire.close()
        self.process.terminate()
        self.process.wait(30)
        self.process.stdout.close()
