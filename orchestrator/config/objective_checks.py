"""Whether what a search is for can be measured, and goes together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from cpsc_core.data.labelled import PlacedData
from cpsc_core.errors import CoreError
from orchestrator.config.chosen import NoPruner
from orchestrator.config.document import Keys, Node, Problem, shown
from orchestrator.config.messages import unknown
from orchestrator.config.objectives import COSTS, LOSSES, SCORES, Objective, bound_of
from orchestrator.config.schema import SweepConfig

__all__ = [
    "constraints_are_known",
    "metrics_are_known",
    "objectives_make_sense",
    "pruning_has_a_metric",
    "top5_is_measured",
]

_CLASSES_FOR_TOP5 = 6


def metrics_are_known(config: SweepConfig, _: Node) -> Iterator[Problem]:
    """What is wrong with the metrics of the objectives."""
    for keys, objective in _places(config):
        if text := _unmeasurable(objective.metric):
            yield Problem((*keys, "metric"), text)


def objectives_make_sense(config: SweepConfig, _: Node) -> Iterator[Problem]:
    """What is wrong with directions, with what counts of a trial, and with objectives side by side."""
    for keys, objective in _places(config):
        metric = objective.metric
        if metric in SCORES and objective.direction == "minimize":
            yield Problem((*keys, "direction"), f"must be maximize for {metric}: more is better")
        elif metric in COSTS and objective.direction == "maximize":
            yield Problem((*keys, "direction"), f"must be minimize for {metric}: less is better")
        elif metric in LOSSES and "direction" not in objective.model_fields_set:
            yield Problem((*keys, "direction"), f"must be given for a loss like {metric}")
        if metric in COSTS and objective.of != "last":
            yield Problem((*keys, "of"), f"must be last for {metric}, which is measured once, at the end")
    counts = Counter(each.metric for each in config.objectives)
    if twice := sorted(metric for metric, count in counts.items() if count > 1):
        yield Problem(("objective",), f"names {twice[0]} twice")


def pruning_has_a_metric(config: SweepConfig, _: Node) -> Iterator[Problem]:
    """What is wrong with `prune_on`, or with pruning without it."""
    metrics = [each.metric for each in config.objectives]
    by_epoch = [metric for metric in metrics if metric not in COSTS]
    prunes, several = not isinstance(config.pruner, NoPruner), len(metrics) > 1
    if config.prune_on is not None and config.prune_on not in metrics:
        text = unknown(f"objective {shown(config.prune_on)}", config.prune_on, metrics)
        yield Problem(("prune_on",), text)
    elif prunes and several and config.prune_on is None:
        which = f"such as prune_on: {by_epoch[0]}, or" if by_epoch else "but none is known after every epoch;"
        yield Problem(("pruner",), f"needs to know which of the objectives to prune on, {which} name: none")
    elif prunes and config.pruning_objective.metric in COSTS:
        keys = ("pruner",) if config.prune_on is None else ("prune_on",)
        text = f"{config.pruning_objective.metric} is known only at the end, so no trial can be pruned on it"
        yield Problem(keys, text if several else f"{text}; use pruner: {{name: none}}")


def constraints_are_known(config: SweepConfig, _: Node) -> Iterator[Problem]:
    """What is wrong with the metrics of the constraints."""
    for index, text in enumerate(config.constraints):
        if problem := _unmeasurable(bound_of(text).metric):
            yield Problem(("constraints", index), problem)
        elif config.constraints.index(text) < index:
            yield Problem(("constraints", index), "is there twice")


def _places(config: SweepConfig) -> Iterator[tuple[Keys, Objective]]:
    if isinstance(config.objective, Objective):
        yield ("objective",), config.objective
    else:
        yield from ((("objective", index), each) for index, each in enumerate(config.objective))


def top5_is_measured(config: SweepConfig, _: Node) -> Iterator[Problem]:
    """What is wrong with the five best of too few classes."""
    places = [((*keys, "metric"), each.metric) for keys, each in _places(config)]
    places += [(("constraints", i), bound_of(text).metric) for i, text in enumerate(config.constraints)]
    wanted = [keys for keys, metric in places if metric == "val_top5"]
    try:
        classes = PlacedData.of(config.data.settings()).spec.num_classes if wanted else 0
    except CoreError:  # said elsewhere
        return
    if classes < _CLASSES_FOR_TOP5:
        for keys in wanted:
            yield Problem(keys, f"is not measured with {classes} classes, where it says little")


def _unmeasurable(metric: str) -> str | None:
    if metric == "test_accuracy":
        return "the search must not look at the test split; use val_accuracy, and read the test in confirm"
    known = (*SCORES, *LOSSES, *COSTS)
    return None if metric in known else unknown(f"metric {shown(metric)}", metric, known)
