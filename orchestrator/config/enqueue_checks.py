"""Whether the parameters that are to be tried first lie in the search space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.config.condition_checks import was_given
from orchestrator.config.conditions import find_circle, in_order, is_active
from orchestrator.config.containment import holds
from orchestrator.config.document import Keys, Node, Problem, shown
from orchestrator.config.messages import unknown
from orchestrator.config.schema import SweepConfig
from orchestrator.config.search_checks import value_fits

__all__ = ["enqueued_lie_in_the_space"]


def enqueued_lie_in_the_space(config: SweepConfig, root: Node) -> Iterator[Problem]:
    """What is wrong with `enqueue`: parameters that are not searched, values that are never tried."""
    if len(config.enqueue) > config.budget.trials:
        text = f"has {len(config.enqueue)} entries, but budget.trials allows {config.budget.trials}"
        yield Problem(("enqueue",), text)
    for index, params in enumerate(config.enqueue):
        for path, value in params.items():
            keys: Keys = ("enqueue", index, path)
            if root.find(keys) is None:
                keys = ("enqueue", index, f"train.{path}")
            yield from _lies_in_the_space(config, root, keys, path, value, params)
        yield from _is_whole(config, index, params)


def _is_whole(config: SweepConfig, index: int, params: Mapping[str, Any]) -> Iterator[Problem]:
    """Grid and qmc choose all parameters of a trial or none."""
    if config.sampler.name in ("grid", "qmc"):
        paths = in_order(config.search) if not _has_circle(config) else []
        missing = [path for path in paths if path not in params and is_active(config.search, path, params)]
        if missing:
            text = f"must have all parameters with sampler {config.sampler.name}; {missing[0]} is missing"
            yield Problem(("enqueue", index), text)


def _has_circle(config: SweepConfig) -> bool:
    return any(find_circle(config.search, path) for path in config.search)


def _lies_in_the_space(
    config: SweepConfig, root: Node, keys: Keys, path: str, value: Any, params: Mapping[str, Any]
) -> Iterator[Problem]:
    if path not in config.search:
        if not was_given(root, path):
            yield Problem(keys, unknown("parameter of the search", path, config.search))
        return
    spec = config.search[path]
    if misfits := list(value_fits(path, keys, value, root)):
        yield misfits[0]
    elif not holds(spec, value):
        yield Problem(keys, f"is {shown(value)}, which the search never tries")
    elif not is_active(config.search, path, params):
        needed = next(parent for parent, values in spec.when.items() if params.get(parent) not in values)
        wanted = " or ".join(shown(each) for each in spec.when[needed])
        yield Problem(keys, f"exists only where {needed} is {wanted}; give that in the same entry")
