"""`status --watch`: one look after another until the sweep ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live

from orchestrator.report.status import headline, render_status, status_document
from orchestrator.store.folder import SweepFolder

__all__ = ["watch_status"]

_SECONDS_BETWEEN_LOOKS = 2.0
_LIVING = ("running", "stopping")
_LINES_AROUND_TRIALS = 4


def watch_status(folder: SweepFolder, stream: TextIO) -> None:
    """Redraw the sweep's status on a terminal; elsewhere print its headline whenever that changes."""
    if stream.isatty():
        _redraw(folder, stream)
    else:
        _print_changes(folder, stream)


def _redraw(folder: SweepFolder, stream: TextIO) -> None:
    console = Console(file=stream)
    with Live(console=console, auto_refresh=False) as live:
        for document in _looks(folder):
            room = max(console.height - _LINES_AROUND_TRIALS, 1)
            live.update(render_status(document, room), refresh=True)


def _print_changes(folder: SweepFolder, stream: TextIO) -> None:
    said = None
    for document in _looks(folder):
        if (line := headline(document)) != said:
            stream.write(f"{line}\n")
            stream.flush()
            said = line


def _looks(folder: SweepFolder) -> Iterator[dict[str, Any]]:
    """The status again and again, the last time when no controller is left to change it."""
    while True:
        document = status_document(folder)
        yield document
        if document["state"] not in _LIVING:
            return
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        folder.refresh()
