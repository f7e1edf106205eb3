"""What separates two experiments, for refusing a sweep folder that is given again with another file."""

from __future__ import annotations

from typing import Any

from orchestrator.config.containment import contains, holds
from orchestrator.config.document import shown
from orchestrator.config.schema import SweepConfig
from orchestrator.config.search import ParamSpec

__all__ = ["MAY_CHANGE", "changes", "difference"]

MAY_CHANGE = frozenset(
    {
        "budget",
        "confirm",
        "data.root",
        "hang",
        "notify",
        "optuna_storage",
        "resources",
        "retry",
        "storage",
        "tracking",
    }
)
"""Fields and blocks that change no trial: a sweep may go on with others than it was started with."""

_ABSENT = object()


def difference(old: SweepConfig, new: SweepConfig) -> list[str]:
    """Lines like `train.epochs: 6 -> 12` for every field that differs and may not; empty: the same sweep.

    The search space may become wider: every trial of the old one must be a trial of the new one.
    """
    before, after = _leaves(old.model_dump(mode="json")), _leaves(new.model_dump(mode="json"))
    wider = _wider(old, new)
    return [
        f"{path}: {_said(before.get(path, _ABSENT))} -> {_said(after.get(path, _ABSENT))}"
        for path in before | after
        if before.get(path, _ABSENT) != after.get(path, _ABSENT)
        and not _may_change(path)
        and not any(path.startswith(f"search.{each}.") for each in wider)
    ]


def _wider(old: SweepConfig, new: SweepConfig) -> list[str]:
    """Parameters that allow all they did before. A grid counts its cells, so it must stay as it is."""
    if new.sampler.name == "grid":
        return []
    return [path for path, spec in new.search.items() if _allows_old(old, path, spec)]


def _allows_old(old: SweepConfig, path: str, spec: ParamSpec) -> bool:
    before = old.search.get(path)
    if before is None:
        return holds(spec, old.fixed_setting(path))
    return spec.when == before.when and contains(spec, before)


def changes(old: SweepConfig, new: SweepConfig) -> list[str]:
    """Lines like those of `difference` for every field that differs, whether it may or not."""
    before, after = _leaves(old.model_dump(mode="json")), _leaves(new.model_dump(mode="json"))
    return [
        f"{path}: {_said(before.get(path, _ABSENT))} -> {_said(after.get(path, _ABSENT))}"
        for path in before | after
        if before.get(path, _ABSENT) != after.get(path, _ABSENT)
    ]


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        leaves |= _leaves(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return leaves


def _may_change(path: str) -> bool:
    return any(path == each or path.startswith(f"{each}.") for each in MAY_CHANGE)


def _said(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(shown(each) for each in value)}]"
    return "not given" if value is _ABSENT else shown(value)
