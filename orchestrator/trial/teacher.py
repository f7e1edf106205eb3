"""The teacher stage on the cluster: load and verify a kept teacher, or make it once and keep it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cpsc_core.card import TeacherCard, TeacherFolder, read_card, teacher_key
from cpsc_core.errors import CoreError, TeacherError
from cpsc_core.settings import DataSettings, TeacherTraining
from orchestrator.cluster.capacity import Node
from orchestrator.cluster.shape import Shape
from orchestrator.errors import OrchestratorError, UnreachableError
from orchestrator.store.address import Storage
from orchestrator.store.shelf import Shelf
from orchestrator.trial.parcel import Parcel
from orchestrator.trial.rank_process import rest_while_waiting
from orchestrator.trial.shipping import pack, unpack

if TYPE_CHECKING:
    from torch import nn

    from cpsc_core.data.labelled import PlacedData

__all__ = ["TeacherWish", "prepare_teacher"]

_SLICE_SECONDS = 0.25
_SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherWish:
    """Which teacher is wanted, and where it is kept."""

    arch: str
    """Name in the table of networks."""
    data: DataSettings
    """The data it is trained or checked on."""
    origin: TeacherTraining | Path
    """How it is trained, or the file its weights are given in."""
    expected_accuracy: float | None
    """What it should score on the validation split; None: nobody says."""
    kept_in: Storage
    """What has one folder for each kept teacher."""


def prepare_teacher(
    wish: TeacherWish,
    shape: Shape,
    node: Node | None,
    say: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> TeacherCard | None:
    """The card of the wished teacher, made first if it is not kept yet; None if asked to stop meanwhile.

    It is made on a machine, which is sent the file that weights are given in; None: on this one.
    Raises CoreError if the file or the data cannot be used, UnreachableError if the process dies, OSError if
    a disk fails.
    """
    actor: Any = ray.remote(_TeacherRank)
    options: dict[str, Any] = {"num_cpus": shape.cpus, "num_gpus": shape.gpus, "max_restarts": 0}
    given = None
    if node is not None:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id=node.id, soft=False)
        given = _pack_given(wish.origin)
    rank: Any = actor.options(**options).remote(wish, shape, given)
    try:
        while True:
            answer = rank.advance.remote()
            while not ray.wait([answer], timeout=_SLICE_SECONDS)[0]:
                if should_stop():
                    return None
            said = ray.get(answer)
            if isinstance(said, CoreError | OrchestratorError):
                raise said
            if isinstance(said, TeacherCard):
                return said
            say(said)
    except RayActorError as error:
        raise UnreachableError(f"the process that makes the teacher died: {error}") from error
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, OSError) else error) from error
    finally:
        ray.kill(rank)


def _pack_given(origin: TeacherTraining | Path) -> Parcel | None:
    if isinstance(origin, TeacherTraining):
        return None
    try:
        return pack(origin)
    except OSError as error:
        raise TeacherError(
            f"the weights file {origin} cannot be read: {error.strerror}; check its path"
        ) from error


class _TeacherRank:
    """The process a teacher is made in."""

    def __init__(self, wish: TeacherWish, shape: Shape, given: Parcel | None) -> None:
        rest_while_waiting()
        if given is not None:
            wish = replace(wish, origin=unpack(given))
        self._words = _prepare(wish, shape.cpus, shape.device)

    def advance(self) -> str | TeacherCard | CoreError | OrchestratorError:
        """The next line of news, or the card. What a person can act on is handed over whole, not raised."""
        try:
            return next(self._words)
        except (CoreError, OrchestratorError) as error:
            return error


def _prepare(wish: TeacherWish, threads: int, device: str) -> Iterator[str | TeacherCard]:
    from cpsc_core.data.labelled import PlacedData
    from cpsc_core.teacher import load_teacher

    placed = PlacedData.of(wish.data)
    yield f"data {wish.data.name}: reading {placed.root or 'what ships with the package'}"
    key = teacher_key(wish.arch, placed.fingerprint(), wish.origin)
    with Shelf(wish.kept_in, key) as shelf:
        yield from _wait_for(shelf, key)
        folder = shelf.folder
        card = read_card(folder)
        if card is None:
            yield from _make(wish, placed, folder, threads, device)
            card = read_card(folder)
        if card is None:
            raise RuntimeError(f"teacher {key} was made, but {TeacherFolder(folder).card} is not there")
        shelf.keep()
    network = load_teacher(card.settings(folder), placed.spec)
    if wish.expected_accuracy is not None:
        _check(network, placed, card.accuracy, wish, threads)
    yield f"teacher {wish.arch} {key}: accuracy {card.accuracy:.4f} (val), kept in {wish.kept_in / key}"
    yield card


def _wait_for(shelf: Shelf, key: str) -> Iterator[str]:
    """Wait until no other sweep makes this teacher; it is made once."""
    told = False
    while not shelf.take():
        if not told:
            yield f"another sweep is making teacher {key}; waiting for it"
        told = True
        time.sleep(_SLICE_SECONDS)


def _make(wish: TeacherWish, placed: PlacedData, folder: Path, threads: int, device: str) -> Iterator[str]:
    from cpsc_core.evaluate import held_out_accuracy
    from cpsc_core.probe import make_probe
    from cpsc_core.process import using_threads
    from cpsc_core.teacher import import_checkpoint, keep_teacher

    with using_threads(threads):
        if isinstance(wish.origin, TeacherTraining):
            network, accuracy = yield from _train(wish, wish.origin, folder, threads, device)
        else:
            yield f"teacher {wish.arch}: checking {wish.origin}"
            network = import_checkpoint(wish.origin, wish.arch, placed.spec).to(device)
            accuracy = held_out_accuracy(network, placed)
            _check(network, placed, accuracy["val"], wish, threads)
        network.eval()
        yield f"teacher {wish.arch}: making the probe images"
        probe = make_probe(network, placed.spec)
        keep_teacher(
            folder, network, probe, arch=wish.arch, data=wish.data, accuracy=accuracy, origin=wish.origin
        )
    shutil.rmtree(_training_folder(folder), ignore_errors=True)


def _check(network: nn.Module, placed: PlacedData, measured: float, wish: TeacherWish, threads: int) -> None:
    """Refuse a teacher that scores less than it should, with the likely reason."""
    from cpsc_core.diagnosis import check_accuracy
    from cpsc_core.process import using_threads

    device = str(next(network.parameters()).device)
    with using_threads(threads):
        check_accuracy(
            network,
            placed.load("val").to(device),
            placed.spec,
            placed.data_set.class_names,
            measured=measured,
            expected=wish.expected_accuracy,
        )


def _train(
    wish: TeacherWish, training: TeacherTraining, folder: Path, threads: int, device: str
) -> Generator[str, None, tuple[nn.Module, Mapping[str, float]]]:
    from cpsc_core.teacher_training import Keeping, train_teacher

    yield f"teacher {wish.arch}: training it once, {training.epochs} epochs, {threads} thread(s), {device}"
    keeping = Keeping(folder=_training_folder(folder), key=folder.name)
    reports = train_teacher(wish.arch, wish.data, training, threads=threads, device=device, keeping=keeping)
    began, first = time.monotonic(), 0
    told = began
    for report in reports:
        now, first = time.monotonic(), first or report.epoch
        if report.epoch == first > 1:
            yield f"teacher {wish.arch}: going on from epoch {first - 1}"
        if now - told > _SECONDS_BETWEEN_LINES:
            told = now
            minutes = (now - began) / 60 / (report.epoch - first + 1) * (training.epochs - report.epoch)
            yield (
                f"teacher {wish.arch}: epoch {report.epoch}/{training.epochs}, "
                f"loss {report.train_loss:.3f}, accuracy {report.accuracy['val']:.4f}, {minutes:.0f} min left"
            )
    return report.network, report.accuracy


def _training_folder(folder: Path) -> Path:
    """Where a training that was cut off goes on from; gone when the teacher is kept."""
    return folder / "training"
