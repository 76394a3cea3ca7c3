"""Debian's Chromium without a window, driven by its DevTools protocol over a pipe: for tests of pages."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = "chromium"
MISSING = "chromium is not installed (Debian: apt-get install chromium)"
_SECONDS = 120  # for an answer, on a busy machine
_ERRORS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.loadingFailed")


class Browser:
    """One tab. `errors` has what it printed to its console, threw or could not load."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.errors: list[str] = []
        self.requested: list[str] = []
        self._to, self._from = to_browser, from_browser
        self._read, self._sent, self._loaded = b"", 0, False
        self._session: dict[str, str] = {}
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        attached = self.command("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the protocol and return its result."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters} | self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._sent:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def open(self, page: Path, width: int, height: int, scheme: str) -> None:
        """Load a page in a window of this size; `scheme` is light or dark."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._loaded = False
        self.command("Page.navigate", url=page.resolve().as_uri())
        while not self._loaded:
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page; a promise is awaited."""
        found = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def screenshot(self, whole_page: bool = True) -> bytes:
        """Return a PNG file of the page."""
        shot = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole_page)
        return base64.b64decode(shot["data"])

    def _receive(self) -> dict[str, Any]:
        """Return the next message; keep the page's errors and requests."""
        until = time.monotonic() + _SECONDS
        while b"\0" not in self._read:
            if not select.select([self._from], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError(f"{PROGRAM} has not answered in {_SECONDS} s")
            part = os.read(self._from, 1 << 16)
            if not part:
                raise RuntimeError(f"{PROGRAM} has ended")
            self._read += part
        text, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        method = message.get("method")
        if method in _ERRORS:
            self.errors.append(json.dumps(message["params"]))
        elif method == "Network.requestWillBeSent":
            self.requested.append(message["params"]["request"]["url"][:100])
        self._loaded |= method == "Page.loadEventFired"
        return message


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Start Chromium with its files in `folder`, and end it."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise FileNotFoundError(MISSING)
    to_browser, from_browser = os.pipe(), os.pipe()
    flags = ["--headless=new", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--disable-dev-shm-usage"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    # The protocol's pipe is descriptors 3 and 4.
    call = f'exec "$0" "$@" 3<&{to_browser[0]} 4>&{from_browser[1]}'
    process = subprocess.Popen(
        ["bash", "-c", call, program, *flags, f"--user-data-dir={folder}", "--remote-debugging-pipe"],
        pass_fds=(to_browser[0], from_browser[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(to_browser[0])
    os.close(from_browser[1])
    try:
        browser = Browser(to_browser[1], from_browser[0])
        yield browser
        browser._session = {}
        browser.command("Browser.close")
    finally:
        os.close(to_browser[1])
        os.close(from_browser[0])
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
