"""A headless Chromium, driven over its DevTools pipe without any library: one tab at a time."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb"),
    "--remote-debugging-pipe",
)
# Chromium reads commands from descriptor 3 and answers on 4. A fork of this process could not set them: JAX forbids it.
LAUNCH = """
import fcntl, os, sys
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for fd, wanted in zip(high, (3, 4)):
    os.dup2(fd, wanted, inheritable=True)
os.execvp(sys.argv[3], sys.argv[3:])
"""
SECONDS = 60  # a busy machine takes its time


def find() -> str | None:
    """The binary, None where there is none; the environment variable CHROMIUM names another."""
    return next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *NAMES))), None)


class Browser:
    """Commands to a browser and its events."""

    def __init__(self, process: subprocess.Popen, to: int, back: int):
        self.process, self._to, self._from = process, to, back
        self._pending, self._number = b"", 0
        self.events: list[dict] = []
        self.session: str | None = None

    def call(self, method: str, **params: Any) -> dict:
        """The result of a command; RuntimeError where it fails."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self.session and not method.startswith("Target."):
            message["sessionId"] = self.session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _next(self) -> dict:
        end = time.monotonic() + SECONDS
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._from], [], [], max(end - time.monotonic(), 0))
            content = os.read(self._from, 2**16) if ready else b""
            if not content:
                raise RuntimeError("the browser does not answer")
            self._pending += content
        message, _, self._pending = self._pending.partition(b"\0")
        return json.loads(message)

    def open(
        self,
        path: Path,
        width: int = 1000,
        height: int = 800,
        dark: bool = False,
        script: bool = True,
    ) -> None:
        """Load a file in a new tab, in place of the one before; returns when it is loaded."""
        if self.session:
            self.session = None
            self.call("Target.closeTarget", targetId=self.target)
        self.events.clear()
        self.target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=self.target, flatten=True)
        self.session = found["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.call("Page.navigate", url=path.absolute().as_uri())
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self.events.append(self._next())

    def resize(self, width: int, height: int = 800) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def value(self, expression: str) -> Any:
        """What an expression gives, as JSON; RuntimeError where it throws."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:2000])
        return found["result"].get("value")

    def settle(self) -> None:
        """Wait until what has changed is laid out and observed."""
        frames = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"
        self.call("Runtime.evaluate", expression=frames, awaitPromise=True)

    def point(self, selector: str, x: float, y: float) -> None:
        """Move the pointer to a place in an element, in fractions of its width and height."""
        find_ = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{find_}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = self.value(f"(b => [b.x, b.y, b.width, b.height])({find_}.getBoundingClientRect())")
        place = {"x": box[0] + x * box[2], "y": box[1] + y * box[3]}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **place)

    def press(self, key: str, code: int) -> None:
        """Press and release a key that writes nothing."""
        for kind in ("rawKeyDown", "keyUp"):
            about = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", **about)

    def requests(self) -> list[str]:
        """Addresses that the page asked for, beside those that hold their content."""
        sent = [e["params"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [p["request"]["url"] for p in sent if not p["request"]["url"].startswith("data:")]

    def complaints(self) -> list[str]:
        """Everything that the console holds."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [json.dumps(e["params"])[:500] for e in self.events if e["method"] in kinds]


@contextlib.contextmanager
def started(binary: str) -> Iterator[Browser]:
    """A browser with an empty profile, ended with the block."""
    theirs_in, to = os.pipe()
    back, theirs_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        launch = [sys.executable, "-c", LAUNCH, str(theirs_in), str(theirs_out)]
        process = subprocess.Popen(
            [*launch, binary, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        browser = Browser(process, to, back)
        try:
            yield browser
            browser.session = None
            browser.call("Browser.close")
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
            os.close(to)
            os.close(back)
