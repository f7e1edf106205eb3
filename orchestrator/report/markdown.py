"""A leaderboard as a Markdown table, to paste into a pull request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.wording import fixed, label, setting, share, short_names

__all__ = ["leaderboard_markdown"]


def leaderboard_markdown(document: Mapping[str, Any], limit: int = 10) -> str:
    """The first rows of a leaderboard document under a line on the teacher; no name breaks the table."""
    rows, objective, teacher = document["rows"][:limit], document["objective"], document["teacher"]
    names = short_names(dict.fromkeys(path for row in rows for path in row["params"]))
    confirmed = any(row["confirm"] for row in rows)
    headings = ["rank", "trial", "objective", *(["confirm val", "confirm test"] if confirmed else [])]
    lines = [
        f"**{_safe(document['sweep'])}**: {objective['direction']} {objective['of']} {objective['metric']}; "
        f"teacher {_safe(teacher['arch'])}: val {share(teacher['accuracy'])}, "
        f"test {share(teacher['test_accuracy'])}",
        "",
        _line([*headings, *names.values()]),
        _line(["---:"] * (len(headings) + len(names))),
    ]
    for row in rows:
        cells = [str(row["rank"]), label(row["number"], row["trial"]), fixed(row["objective"])]
        cells += [_spread(row["confirm"], "val"), _spread(row["confirm"], "test")] if confirmed else []
        cells += [setting(row["params"][path]) if path in row["params"] else "-" for path in names]
        lines.append(_line(cells))
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
