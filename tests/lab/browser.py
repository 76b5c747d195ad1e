# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A real browser: Chromium without a window, told what to do over a pipe, in the messages of
its DevTools protocol.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Iterator

__all__ = ("PROGRAM", "Browser", "opened_browser")

PROGRAM = "chromium"
#: It is told at descriptor 3, and answers at 4.
OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--hide-scrollbars",
)
END = b"\0"


class Browser:
    """One page, of any width, light or dark."""

    def __init__(self, orders: IO[bytes], answers: BufferedReader) -> None:
        self._orders, self._answers = orders, answers
        self._read = b""
        self._count = 0
        self._session = ""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def open(
        self,
        page: Path,
        width: int,
        height: int,
        dark: bool = False,
        script: bool = True,
        media: str = "screen",
    ) -> None:
        """Show a file; without script, as where it is forbidden; on "print", as printed."""
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self._ask("Emulation.setScriptExecutionDisabled", value=not script)
        self._ask("Page.navigate", url=page.as_uri())
        while self.evaluate("document.readyState") != "complete":
            time.sleep(0.01)

    def evaluate(self, expression: str) -> Any:
        """Return what an expression of JavaScript comes to, a promise's outcome too."""
        done = self._ask(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def type(self, text: str) -> None:
        """Type where the focus is."""
        self._ask("Input.insertText", text=text)

    def picture(self) -> bytes:
        """Return what is to be seen, as PNG."""
        taken = self._ask(
            "Page.captureScreenshot", format="png", optimizeForSpeed=False
        )
        return base64.b64decode(taken["data"])

    def _ask(self, method: str, **params: Any) -> Any:
        self._count += 1
        order = {"id": self._count, "method": method, "params": params}
        if self._session:
            order["sessionId"] = self._session
        self._orders.write(json.dumps(order).encode() + END)
        self._orders.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _next(self) -> Any:
        while END not in self._read:
            some = self._answers.read1()
            assert some, "the browser ended"
            self._read += some
        answer, _, self._read = self._read.partition(END)
        return json.loads(answer)


@contextmanager
def opened_browser(profile: Path) -> Iterator[Browser]:
    """Start the browser, with a directory for what it keeps."""
    program = shutil.which(PROGRAM)
    assert program
    told, orders = os.pipe()
    answers, says = os.pipe()
    # Whatever these are called here, there they are 3 and 4.
    redirected = f'exec {program} "$@" 3<&{told} 4>&{says}'
    command = [
        "bash",
        "-c",
        redirected,
        PROGRAM,
        *OPTIONS,
        f"--user-data-dir={profile}",
    ]
    with subprocess.Popen(
        command, pass_fds=(told, says), stderr=subprocess.DEVNULL
    ) as process:
        os.close(told)
        os.close(says)
        with open(orders, "wb") as to, open(answers, "rb") as from_:
            try:
                yield Browser(to, from_)
            finally:
                process.kill()
