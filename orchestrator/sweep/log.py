"""controller.log: where what libraries have to say goes, so that it does not reach the terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cpsc_core.redaction import RedactingFormatter

__all__ = ["logging_to"]


class _Log(logging.FileHandler):
    """A file that may be on a full disk: what cannot be written there is lost, and bothers nobody."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, the name is logging's
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send what libraries log to a file, secrets left out, and nowhere else, while the block runs."""
    handler = _Log(path, encoding="utf-8", delay=True)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [handler]
    try:
        yield
    finally:
        root.handlers[:] = before
        with suppress(OSError):  # it tries once more to write what it could not
            handler.close()
