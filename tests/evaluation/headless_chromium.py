"""A headless Chromium for tests, spoken to in its DevTools protocol over a pipe: no driver, no port, no package.

A browser is looked for under $CHROME, then as chromium, chromium-browser, google-chrome and google-chrome-stable.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "no browser was found: install one (Debian's package chromium, say), or let CHROME name the program of a Chromium"
)
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_ANSWER_WITHIN = 60.0  # seconds: a busy machine starts Chromium slowly


def find_browser() -> str | None:
    """The program of a browser; None where there is none."""
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("CHROME"), *NAMES)))), None)


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """A browser with the empty folder ``profile``, ended with the block."""
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()
    redirected = f'exec "$@" 3</dev/fd/{to_browser} 4>/dev/fd/{from_browser}'  # where Chromium looks for its pipe
    process = subprocess.Popen(
        ["sh", "-c", redirected, "sh", program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Browser(commands, answers)
    finally:
        os.close(commands)  # its end of the pipe going away is what a browser ends on
        os.close(answers)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Browser:
    """Commands to a browser, and the events that came meanwhile."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._unread = b""
        self._last_id = 0
        self.events: list[dict[str, Any]] = []

    def command(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The answer to a command.

        Raises:
            RuntimeError: the browser refuses it, has ended, or says nothing for a minute.
        """
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _ANSWER_WITHIN
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self._last_id:
                break
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def page(self, width: int, height: int, scale: float = 1, touch: bool = False, dark: bool = False) -> Page:
        """A new, empty page of ``width`` x ``height`` CSS pixels, ``scale`` pixels of the screen each."""
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.command(f"{domain}.enable")
        page.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=touch
        )
        page.command("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.command("Emulation.setEmulatedMedia", features=[scheme])
        return page

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            content = os.read(self._answers, 1 << 20) if ready else b""
            if not content:
                raise RuntimeError("the browser has ended" if ready else f"no answer within {_ANSWER_WITHIN:.0f} s")
            self._unread += content
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)


class Page:
    """One page of a browser."""

    def __init__(self, of: Browser, session: str) -> None:
        self._browser, self._session = of, session

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """See :meth:`Browser.command`."""
        return self._browser.command(method, self._session, **parameters)

    def open(self, path: Path) -> None:
        """Open a local file, and wait until it and its images are there."""
        self.command("Page.navigate", url=path.as_uri())
        self.wait_for("document.readyState === 'complete' && [...document.images].every(image => image.complete)")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression comes to, awaited if it is a promise."""
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression holds.

        Raises:
            TimeoutError: it does not within 20 seconds.
        """
        deadline = time.monotonic() + 20
        while not self.value(condition):
            if time.monotonic() > deadline:
                raise TimeoutError(condition)
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press a key such as "ArrowRight", "Home" or "Tab"."""
        code = {"Tab": 9, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}[key]
        for kind in ("rawKeyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def drag(self, points: Sequence[tuple[float, float]]) -> None:
        """Press the mouse at the first of ``points``, move over the others and let go at the last."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
            self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def swipe(self, points: Sequence[tuple[float, float]]) -> None:
        """The same with a finger."""
        kinds = ["touchStart", *["touchMove"] * (len(points) - 1)]
        for kind, (x, y) in zip(kinds, points, strict=True):
            self.command("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y}])
        self.command("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def requested(self) -> list[str]:
        """All URLs that this page asked for, those of images within it included."""
        return [event["request"]["url"] for event in self._events("Network.requestWillBeSent")]

    def problems(self) -> list[str]:
        """What the console shows in red: errors that were logged, thrown, or reported by the browser."""
        thrown = [str(event["exceptionDetails"]) for event in self._events("Runtime.exceptionThrown")]
        logged = [
            str(event) for event in self._events("Runtime.consoleAPICalled") if event["type"] in ("error", "assert")
        ]
        reported = [event["entry"] for event in self._events("Log.entryAdded")]
        return [*thrown, *logged, *(entry["text"] for entry in reported if entry["level"] in ("error", "warning"))]

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Write a PNG of the page, or of what of it is on the screen."""
        shot = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _events(self, method: str) -> Iterator[dict[str, Any]]:
        for event in self._browser.events:
            if event.get("method") == method and event.get("sessionId") == self._session:
                yield event["params"]
