"""What a person reads when a sweep ends: what was found, where it lies, how to look at it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import yaml
from rich.console import Group
from rich.text import Text

from orchestrator.mirror.uri import is_server
from orchestrator.report.best import best_student, find_best, tracking_uri
from orchestrator.report.leaderboard import leaderboard_document
from orchestrator.report.leaderboard_table import render_leaderboard
from orchestrator.report.snapshot import SweepSnapshot
from orchestrator.report.status import headline, standing
from orchestrator.report.wording import label
from orchestrator.store.folder import SweepFolder, TrialFolder
from orchestrator.store.records import STUDENT_ARCH
from orchestrator.store.working_copy import place_of

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["closing_text"]

_SHOWN = 10
"""Rows of the leaderboard; whoever wants all of them asks for the report."""


def closing_text(folder: SweepFolder) -> Group:
    """Leaderboard, best parameters as YAML, where everything lies; print it with `crop=False`."""
    folder = SweepSnapshot(folder.paths)
    best = find_best(folder)
    parts: list[RenderableType] = []
    if best is not None:
        board = leaderboard_document(folder, limit=_SHOWN)
        parts += [render_leaderboard(board), "", *_parameters(best), ""]
    parts += [Text(headline(standing(folder)), style="bold"), *_places(folder, best)]
    return Group(*parts)


def _parameters(best: TrialFolder) -> list[RenderableType]:
    """The best parameters, nested as the blocks of an experiment file nest them."""
    nested: dict[str, object] = {}
    for path, value in best.record.params.items():
        *blocks, name = path.split(".") if path == STUDENT_ARCH else ("train", *path.split("."))
        inner = nested
        for block in blocks:
            inner = inner.setdefault(block, {})  # type: ignore[assignment]
        inner[name] = value
    block = yaml.safe_dump(nested, sort_keys=False).rstrip()
    heading = f"best parameters (trial {label(best.record.number, best.name)}, {best.name}):"
    return [Text(heading, style="bold"), Text(block)]


def _places(folder: SweepFolder, best: TrialFolder | None) -> list[Text]:
    """One line each, never broken, so that it can be copied."""
    uri, place = tracking_uri(folder), place_of(folder.paths.root)
    window = shlex.join(["cpsc-orchestrate", "ui", "--storage", str(folder.paths.storage.root)])
    student = best_student(best) if best else None
    places = {
        "sweep": str(place),
        "student": str(place_of(student)) if student else None,
        "report": str(place_of(folder.paths.report)) if folder.paths.report.exists() else None,
        "MLflow": uri,
        "browse": uri if is_server(uri) or place != folder.paths.root else window,
    }
    return [
        Text(f"{name:<8} {place}", no_wrap=True, overflow="ignore")
        for name, place in places.items()
        if place is not None
    ]
