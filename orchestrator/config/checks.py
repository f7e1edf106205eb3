"""What needs more than one field of an experiment file, or the tables of names, to judge."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter

from cpsc_core import tables
from cpsc_core.distill.presets import PRESETS
from orchestrator.config.block import Block
from orchestrator.config.chosen import PatientPruner, TpeSampler
from orchestrator.config.condition_checks import conditions_can_hold
from orchestrator.config.data_checks import data_is_described, generator_can_draw
from orchestrator.config.document import Keys, Node, Problem, shown
from orchestrator.config.enqueue_checks import enqueued_lie_in_the_space
from orchestrator.config.messages import unknown
from orchestrator.config.networks import unknown_network
from orchestrator.config.objective_checks import (
    constraints_are_known,
    metrics_are_known,
    objectives_make_sense,
    pruning_has_a_metric,
    top5_is_measured,
)
from orchestrator.config.schema import SweepConfig
from orchestrator.config.search import Choices, FloatRange, IntRange
from orchestrator.config.search_checks import search_fits_train
from orchestrator.credentials import find_exposure, holds_credentials
from orchestrator.store.address import BucketAddress
from orchestrator.tracking import why_no_tracking_uri

__all__ = ["CHECKS", "Check", "FILE_CHECKS"]

Check = Callable[[SweepConfig, Node], Iterator[Problem]]
"""Reads a configuration and the tree it came from, and yields what is wrong."""

_KEPT_NAMES = frozenset({"mlflow-artifacts", "mlflow.db", "teachers"})


def _checkpoint_exists(config: SweepConfig, _: Node) -> Iterator[Problem]:
    checkpoint = config.teacher.checkpoint
    try:
        if checkpoint is not None and not checkpoint.is_file():
            yield Problem(("teacher", "checkpoint"), f"there is no file {checkpoint}")
    except OSError as error:
        yield Problem(("teacher", "checkpoint"), f"cannot be read: {error.strerror}")


def _name_is_free(config: SweepConfig, _: Node) -> Iterator[Problem]:
    if config.name in _KEPT_NAMES:
        yield Problem(
            ("name",), f"{shown(config.name)} is a name the storage folder needs itself; choose another"
        )


def _is_in_table(path: str, noun: str, known: Mapping[str, object]) -> Check:
    def check(config: SweepConfig, _: Node) -> Iterator[Problem]:
        name = attrgetter(path)(config)
        if name not in known:
            yield Problem(tuple(path.split(".")), unknown(f"{noun} {shown(name)}", name, known))

    return check


def _is_network(path: str) -> Check:
    def check(config: SweepConfig, _: Node) -> Iterator[Problem]:
        if text := unknown_network(attrgetter(path)(config)):
            yield Problem(tuple(path.split(".")), text)

    return check


def _tpe_options_agree(config: SweepConfig, _: Node) -> Iterator[Problem]:
    sampler = config.sampler
    if isinstance(sampler, TpeSampler) and sampler.options.group and sampler.options.multivariate is False:
        yield Problem(("sampler", "options", "group"), "does not go with multivariate: false; leave one out")


def _pruner_can_prune(config: SweepConfig, _: Node) -> Iterator[Problem]:
    pruner, epochs = config.pruner, config.train.epochs
    if isinstance(pruner, PatientPruner):
        yield from _is_before_the_end(("pruner", "patience"), pruner.patience + 1, epochs, shown_as=-1)
        yield from _starts_in_time(("pruner", "wraps", "min_epochs"), pruner.wraps, epochs)
    else:
        yield from _starts_in_time(("pruner", "min_epochs"), pruner, epochs)


def _starts_in_time(keys: Keys, pruner: Block, epochs: int) -> Iterator[Problem]:
    if (first := getattr(pruner, "min_epochs", None)) is not None:
        yield from _is_before_the_end(keys, first, epochs)


def _is_before_the_end(keys: Keys, first: int, epochs: int, shown_as: int = 0) -> Iterator[Problem]:
    if first >= epochs:
        limit = f"train.epochs, which is {epochs}," if not shown_as else f"{epochs + shown_as}"
        yield Problem(
            keys, f"must be less than {limit} or no trial is ever ended early; but is {first + shown_as}"
        )


def _workers_share_each_batch(config: SweepConfig, _: Node) -> Iterator[Problem]:
    workers, sizes = config.resources.workers, _batch_sizes(config)
    if (misfit := next((size for size in sizes if size % workers), None)) is not None:
        searched = "batch_size" in config.search
        what = f"each batch_size of the search, {misfit} too" if searched else f"train.batch_size, {misfit}"
        yield Problem(("resources", "workers"), f"must divide {what}, but is {workers}")


def _batch_sizes(config: SweepConfig) -> Iterable[int]:
    match config.search.get("batch_size"):
        case IntRange() as spec:
            return range(spec.low, spec.high + 1, spec.step or 1)[:2]  # the rest follows from these
        case Choices() as spec:
            return [each for each in spec.choices if isinstance(each, int)]
        case _:
            return [config.train.batch_size]


def _workers_have_whole_gpus(config: SweepConfig, _: Node) -> Iterator[Problem]:
    """NCCL does not connect two ranks of one group that share a GPU."""
    gpus = config.resources.gpus_per_worker
    if config.resources.workers > 1 and gpus != "auto" and gpus % 1:
        text = f"must be a whole number for several workers, which cannot share a GPU, but is {gpus}"
        yield Problem(("resources", "gpus_per_worker"), text)


def _tracking_has_no_credentials(config: SweepConfig, _: Node) -> Iterator[Problem]:
    """The address is noted in the sweep's folder, so not even one from the environment may hold a secret."""
    if config.tracking.uri is None:
        return
    if reason := why_no_tracking_uri(config.tracking.uri):
        yield Problem(("tracking", "uri"), reason)
    elif holds_credentials(config.tracking.uri):
        text = (
            "must not hold credentials; leave them out and set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD in the environment"
        )
        yield Problem(("tracking", "uri"), text)


def _starts_from_others(config: SweepConfig, _: Node) -> Iterator[Problem]:
    for index, name in enumerate(config.start_from):
        if name == config.name:
            yield Problem(
                ("start_from", index), f"{name} is this sweep itself, which goes on as it is; leave it out"
            )


def _bucket_has_a_server(config: SweepConfig, _: Node) -> Iterator[Problem]:
    if isinstance(config.storage, BucketAddress) and config.tracking.uri is None:
        text = (
            "a bucket has no place for MLflow's database: set tracking.uri to the server that shows the sweep"
        )
        yield Problem(("storage",), text)


def _tracking_keeps_credentials(config: SweepConfig, _: Node) -> Iterator[Problem]:
    uri = config.tracking.uri
    if uri is not None and (exposure := find_exposure(uri, os.environ)):
        yield Problem(("tracking", "uri"), exposure)


def _grid_is_finite(config: SweepConfig, _: Node) -> Iterator[Problem]:
    if config.sampler.name != "grid":
        return
    for path, spec in config.search.items():
        if isinstance(spec, FloatRange) and spec.step is None:
            yield Problem(
                ("search", path), "a grid needs a step or choices here: between two fractions lie more"
            )


CHECKS: tuple[tuple[tuple[str, ...], Check], ...] = (
    (("name",), _name_is_free),
    (("data.name",), _is_in_table("data.name", "data set", tables.DATA_SETS)),
    (("data",), data_is_described),
    (("data",), generator_can_draw),
    (("teacher.arch",), _is_network("teacher.arch")),
    (("student.arch",), _is_network("student.arch")),
    (("train.method",), _is_in_table("train.method", "method", tables.METHODS)),
    (("train.loss.ikd_form",), _is_in_table("train.loss.ikd_form", "loss", tables.LOSSES)),
    (("train.preset",), _is_in_table("train.preset", "preset", PRESETS)),
    (("search",), search_fits_train),
    (("search", "sampler.name"), _grid_is_finite),
    (("sampler.name", "sampler.options"), _tpe_options_agree),
    (("search", "train", "student.arch"), conditions_can_hold),
    (("search", "train", "student.arch", "enqueue", "sampler.name"), enqueued_lie_in_the_space),
    (
        (
            "train.epochs",
            "pruner.name",
            "pruner.min_epochs",
            "pruner.patience",
            "pruner.wraps.name",
            "pruner.wraps.min_epochs",
        ),
        _pruner_can_prune,
    ),
    (("objective.metric",), metrics_are_known),
    (("objective.metric", "objective.direction", "objective.of"), objectives_make_sense),
    (("objective.metric", "prune_on", "pruner.name"), pruning_has_a_metric),
    (("constraints",), constraints_are_known),
    (("objective.metric", "constraints", "data"), top5_is_measured),
    (("train.batch_size", "search", "resources.workers"), _workers_share_each_batch),
    (("resources.workers", "resources.gpus_per_worker"), _workers_have_whole_gpus),
    (("tracking.uri",), _tracking_has_no_credentials),
    (("name", "start_from"), _starts_from_others),
    (("storage", "tracking"), _bucket_has_a_server),
)
"""Each check after the fields it reads: it is left out where one of them could not be read."""

FILE_CHECKS: tuple[tuple[tuple[str, ...], Check], ...] = (
    (("teacher.checkpoint",), _checkpoint_exists),
    (("tracking.uri",), _tracking_keeps_credentials),
)
"""Checks of the machine rather than of the file: for an experiment that is about to start."""
