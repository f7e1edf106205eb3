"""controller.log: where what libraries have to say goes, so that it does not reach the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cpsc_core.redaction import RedactingFormatter

__all__ = ["logging_to"]


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send what libraries log to a file, secrets left out, and nowhere else, while the block runs."""
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [handler]
    try:
        yield
    finally:
        root.handlers[:] = before
        handler.close()
