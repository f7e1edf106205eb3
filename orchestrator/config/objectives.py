"""What a search is for: objectives, and constraints that a trial must keep to be the best in them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import BeforeValidator, Discriminator, Tag
from pydantic_core import PydanticCustomError

from orchestrator.config.block import Block

__all__ = [
    "Bound",
    "COSTS",
    "Constraints",
    "LOSSES",
    "Objective",
    "Objectives",
    "SCORES",
    "bound_of",
    "metrics_by_epoch",
]

SCORES = ("label_fidelity", "teacher_agreement", "val_accuracy", "val_top5")
"""Metrics from 0 to 1 of which more is better."""

LOSSES = (
    "generator_batch_norm",
    "generator_contrastive",
    "generator_ikd",
    "generator_kl",
    "generator_loss",
    "generator_pseudo_label",
    "student_ikd",
    "student_kl",
    "student_loss",
    "student_pseudo_label",
)
"""Metrics that are means of a loss term over an epoch."""

COSTS = ("latency", "peak_memory_gb", "student_parameters")
"""Metrics of which less is better and that are known only when a trial is complete."""

_CONSTRAINT = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(<=|>=)\s*(\S+)\s*")


class Objective(Block):
    """What the best trial is the best in."""

    metric: str = "val_accuracy"
    """Key of a metrics line, or what a student costs: latency, peak_memory_gb or student_parameters."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Whether more of it is better or less."""
    of: Literal["best", "last", "mean5"] = "last"
    """Its value after the last epoch, its best over all epochs, or its mean over the last five."""


Objectives = Annotated[
    Annotated[Objective, Tag("<one>")] | Annotated[tuple[Objective, ...], MinLen(1), Tag("<several>")],
    Discriminator(lambda raw: "<several>" if isinstance(raw, list | tuple) else "<one>"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A constraint, read."""

    metric: str
    """What is bounded, by its value after the last epoch."""
    is_upper: bool
    """Whether it may be the limit at most, or must be at least that."""
    limit: float
    """The limit, which is allowed itself."""

    def excess(self, value: float) -> float:
        """How far a value lies beyond the limit, as a share of it; 0 or less keeps it."""
        beyond = value - self.limit if self.is_upper else self.limit - value
        return beyond / abs(self.limit) if self.limit else beyond


def bound_of(text: str) -> Bound:
    """The constraint that a text such as `peak_memory_gb <= 10` states; ValueError if it states none."""
    match = _CONSTRAINT.fullmatch(text)
    if match is None:
        raise ValueError("must be METRIC <= NUMBER or METRIC >= NUMBER, such as peak_memory_gb <= 10")
    metric, relation, number = match.groups()
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise ValueError(f"must end with a finite number, such as {metric} {relation} 10")
    return Bound(metric=metric, is_upper=relation == "<=", limit=limit)


def metrics_by_epoch() -> tuple[str, ...]:
    """Metrics that are known after every epoch."""
    return (*SCORES, *LOSSES)


def _check_constraint(raw: Any) -> Any:
    if isinstance(raw, str):
        try:
            bound_of(raw)
        except ValueError as error:
            raise PydanticCustomError("constraint", "{problem}", {"problem": str(error)}) from error
        return " ".join(_CONSTRAINT.fullmatch(raw).groups())  # type: ignore[union-attr]
    return raw


Constraint = Annotated[str, BeforeValidator(_check_constraint)]
Constraints = tuple[Constraint, ...]
