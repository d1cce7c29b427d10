"""Headless Chromium, over its DevTools protocol: what a page is like for those who look at it or listen to it."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

from websockets.sync.client import connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 90
"""Seconds that a start or an answer may take on a crowded machine."""

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


def program() -> str | None:
    """Return the path of a Chromium on the PATH, if there is one."""
    return next((path for path in map(shutil.which, PROGRAMS) if path), None)


class Browser:
    """One Chromium process with one page; use as a context."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        command = [program(), *OPTIONS, f"--user-data-dir={folder}", "--remote-debugging-port=0", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._number, self.events = 0, []

    def __enter__(self) -> "Browser":
        try:
            self._socket = connect(self._page(), max_size=None, proxy=None)
            for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
                self.call(f"{domain}.enable")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_) -> None:
        self._socket.close()
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _page(self) -> str:
        """Wait for the port that Chromium chose, and return the address of its page."""
        chosen, until = self._folder / "DevToolsActivePort", time.monotonic() + PATIENCE
        while not (chosen.is_file() and chosen.read_text().count("\n")):
            assert self._process.poll() is None, f"Chromium ended with {self._process.returncode}"
            assert time.monotonic() < until, "Chromium did not say on which port it listens"
            time.sleep(0.05)
        port = chosen.read_text().split("\n")[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE) as answer:
            (page,) = (each for each in json.load(answer) if each["type"] == "page")
        return page["webSocketDebuggerUrl"]

    def call(self, method: str, **parameters):
        """Send a command and return its result; what happens meanwhile is kept in ``events``."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(PATIENCE))
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self.events.append(message)

    def open(self, path: Path) -> None:
        """Open a file and wait until it is loaded whole."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self._socket.recv(PATIENCE)))
        self.evaluate("document.fonts.ready.then(() => true)")

    def evaluate(self, expression: str):
        """Return what a JavaScript expression is worth in the page, which its own policy does not hinder."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def become(self, width: int, height: int = 800, scheme: str = "light", media: str = "") -> None:
        """Take on a window's size in pixels, a colour scheme, and a medium."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def picture(self) -> bytes:
        """Return the whole page as a PNG file."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def printed(self) -> bytes:
        """Return the page as a PDF file."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])
