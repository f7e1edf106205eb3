"""The first stage of a sweep, which also runs alone: a teacher that is kept, verified or made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from cpsc_core.card import TeacherCard
from orchestrator.cluster.capacity import Cluster
from orchestrator.cluster.places import open_places
from orchestrator.cluster.scratch import new_scratch
from orchestrator.cluster.session import open_cluster
from orchestrator.config import Experiment, SweepConfig
from orchestrator.errors import SignalledError
from orchestrator.store.address import Storage
from orchestrator.store.paths import StoragePaths
from orchestrator.store.space import make_room
from orchestrator.store.working_copy import fetch, open_storage, place_of
from orchestrator.sweep.interrupt import Interrupt
from orchestrator.sweep.progress import Progress

__all__ = ["make_teacher", "teacher_stage"]


def make_teacher(
    experiment: Experiment, *, storage: Storage | None = None, address: str | None = None, progress: Progress
) -> dict[str, Any]:
    """The card of an experiment's teacher, which is trained and kept first if need be.

    Raises SignalledError if a signal came meanwhile: a teacher that is not whole is not kept.
    """
    root = open_storage(storage or experiment.config.storage)
    make_room(root, root)
    config, paths = experiment.config, StoragePaths(root)
    with (
        Interrupt(lambda: None, lambda: "the teacher was not kept") as interrupt,
        open_cluster(address, new_scratch(), progress.say) as cluster,
        open_places(
            cluster,
            cluster.shape(config.resources),
            shared=place_of(paths.teachers),
            data=config.data.settings().root,
            say=progress.say,
        ),
    ):
        card = teacher_stage(config, paths, cluster, progress, lambda: interrupt.caught is not None)
    if card is None:
        raise SignalledError("interrupted; the teacher was not kept", interrupt.exit_code)
    return asdict(card)


def teacher_stage(
    config: SweepConfig,
    storage: StoragePaths,
    cluster: Cluster,
    progress: Progress,
    should_stop: Callable[[], bool],
) -> TeacherCard | None:
    """The teacher's card, None if asked to stop; one process with all the CPUs of one node makes it."""
    from orchestrator.trial.teacher import TeacherWish, prepare_teacher

    wish = TeacherWish(
        arch=config.teacher.arch,
        data=config.data.settings(),
        origin=config.teacher.checkpoint or config.teacher.train,
        expected_accuracy=config.teacher.expected_accuracy,
        kept_in=place_of(storage.teachers),
    )
    shape = cluster.shape(config.resources)
    node = max(cluster.fitting(shape), key=lambda each: each.cpus)
    shape = replace(shape, workers=1, cpus=int(node.cpus))
    card = prepare_teacher(wish, shape, node if cluster.is_joined else None, progress.say, should_stop)
    if card is not None:
        fetch(storage.teacher(card.key))
    return card
