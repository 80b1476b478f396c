"""A headless Chromium driven over a pipe by its own protocol (CDP): nothing to install beside the browser."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

FLAGS = (
    "--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-device-scale-factor=1",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip


def found() -> str | None:
    """The browser's path: `CHROMIUM`, or the first of the usual names."""
    return os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )


class Browser:
    """One page of a browser that lives as long as the `with` block; `events` holds what it told, in order."""

    def __init__(self, path: str, *flags: str, seconds: float = 240.0) -> None:
        self._flags, self._path, self._seconds = flags, path, seconds
        self._number, self._left, self.events = 0, b"", []

    def __enter__(self) -> Browser:
        self._home = tempfile.mkdtemp(prefix="chromium-")
        from_us, self._out = os.pipe()
        self._in, to_us = os.pipe()

        def take() -> None:  # the protocol's pipes are 3 and 4
            ends = os.dup(from_us), os.dup(to_us)
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)
            os.setsid()

        words = [self._path, *FLAGS, *self._flags, f"--user-data-dir={self._home}", "about:blank"]
        self._process = subprocess.Popen(
            words, preexec_fn=take, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(from_us)
        os.close(to_us)
        os.set_blocking(self._in, False)
        target = next(one for one in self._call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self._session = None
        self._session = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Security"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self._home, ignore_errors=True)

    def call(self, method: str, **given):
        """One command to the page, and its answer."""
        return self._call(method, session=self._session, **given)

    def _call(self, method: str, session: str | None = None, **given):
        self._number += 1
        told = {"id": self._number, "method": method, "params": given} | ({"sessionId": session} if session else {})
        content = json.dumps(told).encode() + b"\0"
        while content:
            content = content[os.write(self._out, content) :]
        until = time.monotonic() + self._seconds
        while time.monotonic() < until:
            for message in self._messages():
                if message.get("id") == self._number:
                    if "error" in message:
                        raise RuntimeError(f"{method}: {message['error']}")
                    return message["result"]
                self.events.append(message)
            time.sleep(0.01)
        raise TimeoutError(method)

    def _messages(self):
        try:
            self._left += os.read(self._in, 1 << 20)
        except BlockingIOError:
            return []
        *whole, self._left = self._left.split(b"\0")
        return [json.loads(one) for one in whole]

    def size(self, width: int, height: int) -> None:
        """The window, in CSS pixels; a narrow one is a phone's."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def open(self, page: Path) -> None:
        """Load a file and wait until it is whole."""
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.wait("document.readyState === 'complete'")

    def evaluate(self, expression: str):
        """The value of a JavaScript expression; a promise is awaited."""
        told = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise RuntimeError(told["exceptionDetails"]["exception"]["description"])
        return told["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + self._seconds
        while not self.evaluate(expression):
            if time.monotonic() > until:
                raise TimeoutError(expression)
            time.sleep(0.2)

    def picture(self, path: Path | None = None, box: dict | None = None) -> bytes:
        """A PNG of what is seen, or of a box of the page."""
        clip = {"clip": {**box, "scale": 1}} if box else {}
        png = base64.b64decode(
            self.call("Page.captureScreenshot", format="png", captureBeyondViewport=bool(box), **clip)["data"]
        )
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png)
        return png

    def pdf(self, path: Path) -> None:
        """The page as it prints on A4."""
        told = self.call(
            "Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True, printBackground=True
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(told["data"]))
