"""The command on a terminal of its own, where Ctrl-C goes to every process of the foreground group."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from typing import Self

__all__ = ["Terminal"]

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
CTRL_C = b"\x03"


class Terminal:
    """A terminal on which the command was started."""

    def __init__(self, *arguments: str | Path) -> None:
        self._master, slave = pty.openpty()

        def own_terminal() -> None:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, "-c", "from orchestrator.cli import main; main()", *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=own_terminal,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "200", "LINES": "50"},
        )
        os.close(slave)
        self._shown: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
        self._reader.join(timeout=5.0)
        os.close(self._master)

    @property
    def text(self) -> str:
        """What was shown so far, colours and cursor movements left out."""
        return _ESCAPES.sub("", b"".join(self._shown).decode(errors="replace")).replace("\r", "")

    def press_ctrl_c(self) -> float:
        """Press Ctrl-C; returns when, on the monotonic clock."""
        os.write(self._master, CTRL_C)
        return time.monotonic()

    def wait(self, seconds: float) -> tuple[int, float]:
        """The exit code, and when the process ended, on the monotonic clock."""
        code = self.process.wait(timeout=seconds)
        ended = time.monotonic()
        self._reader.join(timeout=5.0)  # what Ray still runs may have the terminal open a little longer
        return code, ended

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the last process on the terminal has gone
                return
            if not data:
                return
            self._shown.append(data)
