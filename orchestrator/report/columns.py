"""What the cells of a leaderboard say, whatever it is printed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from orchestrator.report.wording import fixed

__all__ = ["FRONT", "Columns", "Row", "objective_columns", "place"]

Row = Mapping[str, Any]
Columns = Mapping[str, Callable[[Row], str]]

FRONT = "* no other trial is better in one objective and worse in none"
"""What the star at a rank means."""


def objective_columns(goals: Sequence[str]) -> Columns:
    """The objective, or a column for each of several."""
    names = ["objective"] if len(goals) == 1 else [goal.replace("_", " ") for goal in goals]
    return {name: partial(_objective, goal) for name, goal in zip(names, goals, strict=True)}


def place(row: Row) -> str:
    """A row's rank, with a star on the front; a dash without one."""
    return "-" if row["rank"] is None else str(row["rank"]) + "*" * row["front"]


def _objective(goal: str, row: Row) -> str:
    return fixed(row["objectives"].get(goal))
