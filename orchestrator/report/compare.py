"""Several sweeps in one table: what each was given, what each found, and on which terms they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.report.leaderboard import leaderboard_document, tried
from orchestrator.report.snapshot import SweepSnapshot
from orchestrator.report.status import standing
from orchestrator.report.wording import duration, fixed, goals, share
from orchestrator.store.folder import SweepFolder, TrialFolder

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["compare_document", "render_comparison"]

_TERMS: Mapping[str, str] = {
    "data_fingerprint": "data",
    "teacher_sha256": "teacher",
    "objective": "objective",
    "epochs": "epochs of a trial",
    "trials": "number of trials",
    "seeds": "confirm seeds",
}
"""What should be the same for a comparison to be fair, and what people call it."""


def compare_document(folders: Sequence[SweepFolder]) -> dict[str, Any]:
    """One row per sweep, and `unequal`: the terms on which they do not compare, as plain JSON values."""
    rows = [_row(SweepSnapshot(folder.paths)) for folder in folders]
    unequal = [name for key, name in _TERMS.items() if len({str(row[key]) for row in rows}) > 1]
    return {"sweeps": rows, "unequal": unequal}


def render_comparison(document: Mapping[str, Any]) -> Group:
    """A comparison as a table with a column per sweep, and a line on where they do not compare."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = document["sweeps"]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for row in rows:
        table.add_column(row["sweep"], justify="right", overflow="fold")
    for name, cell in _LINES.items():
        table.add_row(name, *(Text(cell(row)) for row in rows))
    unequal = document["unequal"]
    verdict = f"not on equal terms: {', '.join(unequal)} differ" if unequal else "on equal terms"
    return Group(table, Text(verdict, style="bold yellow" if unequal else "bold green"))


_LINES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "state": lambda row: row["state"],
    "data": lambda row: str(row["data"]),
    "teacher": lambda row: f"{row['teacher_arch']} {(row['teacher_sha256'] or '-')[:8]}",
    "teacher val": lambda row: share(row["teacher_accuracy"]),
    "teacher test": lambda row: share(row["teacher_test_accuracy"]),
    "student": lambda row: str(row["student"]),
    "objective": lambda row: row["objective"],
    "trials": lambda row: f"{row['finished']} of {row['trials']}",
    "epochs of a trial": lambda row: str(row["epochs"]),
    "work": lambda row: duration(row["hours"] * 3600),
    "best": lambda row: fixed(row["best"]),
    "confirm seeds": lambda row: str(row["seeds"] or "-"),
    "confirm val": lambda row: _spread(row, "val"),
    "confirm test": lambda row: _spread(row, "test"),
    "test below teacher": lambda row: share(row["below_teacher"]),
}


def _row(folder: SweepFolder) -> dict[str, Any]:
    manifest, trials = folder.manifest, folder.trials()
    teacher, data = manifest.get("teacher") or {}, manifest.get("data") or {}
    board = leaderboard_document(folder)
    first = board["rows"][0] if board["rows"] else None
    confirm = (first or {}).get("confirm") or {}
    test, taught = confirm.get("test_mean"), teacher.get("test_accuracy")
    return {
        "sweep": folder.name,
        "state": standing(folder)["state"],
        "data": data.get("name"),
        "data_fingerprint": data.get("fingerprint"),
        "teacher_arch": teacher.get("arch"),
        "teacher_sha256": teacher.get("sha256"),
        "teacher_accuracy": teacher.get("accuracy"),
        "teacher_test_accuracy": taught,
        "student": tried(trials, "student_arch"),
        "objective": goals(board["objectives"]),
        "epochs": manifest.get("epochs"),
        "trials": manifest.get("budget_trials"),
        "finished": sum(trial.result is not None and trial.record.number is not None for trial in trials),
        "hours": sum(map(_hours, trials)),
        "best": first["objective"] if first else None,
        "best_params": first["params"] if first else None,
        "seeds": confirm.get("seeds"),
        **{
            f"{split}_{what}": confirm.get(f"{split}_{what}") for split in ("val", "test") for what in _SPREAD
        },
        "below_teacher": None if test is None or taught is None else taught - test,
    }


_SPREAD = ("mean", "std")


def _hours(trial: TrialFolder) -> float:
    noted = trial.result.timing.get("seconds") if trial.result else None
    return (trial.seconds if noted is None else float(noted)) / 3600


def _spread(row: Mapping[str, Any], split: str) -> str:
    mean, deviation = row[f"{split}_mean"], row[f"{split}_std"]
    return fixed(mean) + ("" if deviation is None else f" +- {deviation:.4f}")
