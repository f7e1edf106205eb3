"""A leaderboard as a Markdown table, to paste into a pull request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.columns import FRONT, objective_columns, place
from orchestrator.report.wording import fixed, goals, label, setting, share, short_names

__all__ = ["leaderboard_markdown"]


def leaderboard_markdown(document: Mapping[str, Any], limit: int = 10) -> str:
    """The first rows of a leaderboard document under a line on the teacher; no name breaks the table."""
    rows, teacher = document["rows"][:limit], document["teacher"]
    objectives = objective_columns([each["metric"] for each in document["objectives"]])
    names = short_names(dict.fromkeys(path for row in rows for path in row["params"]))
    confirmed = any(row["confirm"] for row in rows)
    headings = ["rank", "trial", *objectives, *(["confirm val", "confirm test"] if confirmed else [])]
    lines = [
        f"**{_safe(document['sweep'])}**: {goals(document['objectives'])}; "
        f"teacher {_safe(teacher['arch'])}: val {share(teacher['accuracy'])}, "
        f"test {share(teacher['test_accuracy'])}",
        "",
        _line([*headings, *names.values()]),
        _line(["---:"] * (len(headings) + len(names))),
    ]
    for row in rows:
        cells = [place(row), label(row["number"], row["trial"]), *(cell(row) for cell in objectives.values())]
        cells += [_spread(row["confirm"], "val"), _spread(row["confirm"], "test")] if confirmed else []
        cells += [setting(row["params"][path]) if path in row["params"] else "-" for path in names]
        lines.append(_line(cells))
    if len(objectives) > 1:
        lines += ["", _safe(FRONT).replace("*", "\\*")]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_safe, cells))} |"


def _safe(text: object) -> str:
    return str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _spread(confirm: Mapping[str, Any] | None, split: str) -> str:
    if confirm is None or confirm[f"{split}_mean"] is None:
        return "-"
    deviation = confirm[f"{split}_std"]
    return fixed(confirm[f"{split}_mean"]) + ("" if deviation is None else f" \u00b1 {deviation:.4f}")
