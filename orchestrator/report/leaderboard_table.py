"""A leaderboard as people read it, laid out for the width it is printed at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from orchestrator.report.columns import FRONT, Columns, Row, objective_columns, place
from orchestrator.report.wording import fixed, label, setting, share, short_names

__all__ = ["render_leaderboard"]

_WIDER_THAN_ANY_TERMINAL = 10_000
_PLACE: Columns = {
    "rank": place,
    "trial": lambda row: label(row["number"], row["trial"]),
}
_SCORES: Columns = {
    "best": lambda row: fixed(row["best"]),
    "mean5": lambda row: fixed(row["mean5"]),
    "fidelity": lambda row: fixed(row["label_fidelity"]),
}
_CONFIRMED: Columns = {
    "confirm val": lambda row: _spread(row["confirm"], "val"),
    "confirm test": lambda row: _spread(row["confirm"], "test"),
}


def render_leaderboard(document: Mapping[str, Any], limit: int = 10) -> Group:
    """The first rows of a leaderboard document, with the teacher's accuracy in the title.

    Scores and parameters share a table where there is room for it, and have one each where there is not. With
    several objectives a star marks the trials on the front; a trial that breaks a constraint has no rank.
    """
    goals = [each["metric"] for each in document["objectives"]]
    shown = [*document["rows"], *document["infeasible"]][:limit]
    notes = [Text(note) for note in _notes(shown, goals)]
    return Group(Text(_title(document), style="bold"), _Rows(shown, goals), *notes)


@dataclass(frozen=True, slots=True)
class _Rows:
    rows: Sequence[Row]
    goals: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        scores, parameters = self._scores(), self._parameters()
        whole = self._table({**_PLACE, **scores, **parameters})
        if _width(console, options, whole) <= options.max_width:
            yield whole
        else:
            yield from (self._table({**_PLACE, **scores}), "", self._table({**_PLACE, **parameters}))

    def _scores(self) -> Columns:
        objectives = objective_columns(self.goals)
        confirmed = any(row["confirm"] for row in self.rows)
        return {**objectives, **_SCORES, **(_CONFIRMED if confirmed else {})}

    def _parameters(self) -> Columns:
        names = short_names(dict.fromkeys(path for row in self.rows for path in row["params"]))
        return {name: partial(_parameter, path) for path, name in names.items()}

    def _table(self, columns: Columns) -> Table:
        table = Table(box=None, pad_edge=False)
        for heading in columns:
            table.add_column(heading, justify="right", no_wrap=True)
        for row in self.rows:
            cells = (Text(cell(row)) for cell in columns.values())
            table.add_row(*cells, style="dim" if row["rank"] is None else "bold" if row["rank"] == 1 else "")
        return table


def _width(console: Console, options: ConsoleOptions, table: Table) -> int:
    """How wide a table would like to be."""
    return console.measure(table, options=options.update(width=_WIDER_THAN_ANY_TERMINAL)).maximum


def _notes(rows: Sequence[Row], goals: Sequence[str]) -> list[str]:
    """What the marks in a table mean, where there are any."""
    broken = [
        f"{label(row['number'], row['trial'])} ({', '.join(row['broken'])})" for row in rows if row["broken"]
    ]
    return [
        *([FRONT] if len(goals) > 1 else []),
        *([f"breaks a constraint: {'; '.join(broken)}"] if broken else []),
    ]


def _title(document: Mapping[str, Any]) -> str:
    objectives, teacher = document["objectives"], document["teacher"]
    splits = {"val": teacher["accuracy"], "test": teacher["test_accuracy"]}
    known = [f"{split} {share(accuracy)}" for split, accuracy in splits.items() if accuracy is not None]
    own = f"; teacher {teacher['arch']}: {', '.join(known)}" if known else ""
    goals = ", ".join(f"{each['of']} {each['metric']}" for each in objectives)
    return f"{document['sweep']}: {goals}{own}"


def _parameter(path: str, row: Row) -> str:
    return setting(row["params"][path]) if path in row["params"] else "-"


def _spread(confirm: Mapping[str, Any] | None, split: str) -> str:
    if confirm is None or confirm[f"{split}_mean"] is None:
        return "-"
    spread = confirm[f"{split}_std"]
    return fixed(confirm[f"{split}_mean"]) + (f" +- {spread:.4f}" if spread is not None else "")
