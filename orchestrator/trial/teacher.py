"""The teacher stage on the cluster: load and verify a kept teacher, or make it once and keep it."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError

from cpsc_core.card import TeacherCard, TeacherFolder, read_card, teacher_key
from cpsc_core.errors import CoreError
from cpsc_core.settings import DataSettings, TeacherTraining
from orchestrator.errors import UnreachableError
from orchestrator.trial.assignment import Shape
from orchestrator.trial.rank_process import rest_while_waiting

if TYPE_CHECKING:
    from torch import nn

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
    kept_in: Path
    """The folder with one folder for each kept teacher."""


def prepare_teacher(
    wish: TeacherWish, shape: Shape, *, say: Callable[[str], None], should_stop: Callable[[], bool]
) -> TeacherCard | None:
    """The card of the wished teacher, made first if it is not kept yet; None if asked to stop meanwhile.

    Raises CoreError if the file or the data cannot be used, UnreachableError if the process dies.
    """
    actor: Any = ray.remote(_TeacherRank)
    rank: Any = actor.options(num_cpus=shape.cpus, num_gpus=shape.gpus, max_restarts=0).remote(wish, shape)
    try:
        while True:
            answer = rank.advance.remote()
            while not ray.wait([answer], timeout=_SLICE_SECONDS)[0]:
                if should_stop():
                    return None
            said = ray.get(answer)
            if isinstance(said, CoreError):
                raise said
            if isinstance(said, TeacherCard):
                return said
            say(said)
    except RayActorError as error:
        raise UnreachableError(f"the process that makes the teacher died: {error}") from error
    finally:
        ray.kill(rank)


class _TeacherRank:
    """The process a teacher is made in."""

    def __init__(self, wish: TeacherWish, shape: Shape) -> None:
        rest_while_waiting()
        self._words = _prepare(wish, shape.cpus, shape.device)

    def advance(self) -> str | TeacherCard | CoreError:
        """The next line of news, or the card. What a person can act on is handed over whole, not raised."""
        try:
            return next(self._words)
        except CoreError as error:
            return error


def _prepare(wish: TeacherWish, threads: int, device: str) -> Iterator[str | TeacherCard]:
    from cpsc_core.data.labelled import PlacedData
    from cpsc_core.teacher import load_teacher

    placed = PlacedData.of(wish.data)
    key = teacher_key(wish.arch, placed.fingerprint(), wish.origin)
    folder = wish.kept_in / key
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lease").open("w") as lease:
        yield from _own(lease.fileno(), key)
        card = read_card(folder)
        if card is None:
            yield from _make(wish, folder, threads, device)
            card = read_card(folder)
        if card is None:
            raise RuntimeError(f"teacher {key} was made, but {TeacherFolder(folder).card} is not there")
        load_teacher(card.settings(folder), placed.spec)
        yield f"teacher {wish.arch} {key}: accuracy {card.accuracy:.4f} (val), kept in {folder}"
        yield card


def _own(handle: int, key: str) -> Iterator[str]:
    """Wait until no other sweep makes this teacher; it is made once."""
    told = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                yield f"another sweep is making teacher {key}; waiting for it"
            told = True
            time.sleep(_SLICE_SECONDS)
        else:
            return


def _make(wish: TeacherWish, folder: Path, threads: int, device: str) -> Iterator[str]:
    from cpsc_core.data.labelled import PlacedData
    from cpsc_core.probe import make_probe
    from cpsc_core.process import using_threads
    from cpsc_core.teacher import held_out_accuracy, import_checkpoint, keep_teacher

    spec = PlacedData.of(wish.data).spec
    if isinstance(wish.origin, TeacherTraining):
        network, accuracy = yield from _train(wish, wish.origin, threads, device)
    else:
        yield f"teacher {wish.arch}: checking {wish.origin}"
        network = import_checkpoint(wish.origin, wish.arch, spec).to(device)
        accuracy = held_out_accuracy(network, wish.data)
    with using_threads(threads):
        network.eval()
        probe = make_probe(network, spec)
        keep_teacher(
            folder, network, probe, arch=wish.arch, data=wish.data, accuracy=accuracy, origin=wish.origin
        )


def _train(
    wish: TeacherWish, training: TeacherTraining, threads: int, device: str
) -> Generator[str, None, tuple[nn.Module, Mapping[str, float]]]:
    from cpsc_core.teacher import train_teacher

    yield f"teacher {wish.arch}: training it once, {training.epochs} epochs, {threads} thread(s), {device}"
    told = time.monotonic()
    for report in train_teacher(wish.arch, wish.data, training, threads=threads, device=device):
        if time.monotonic() - told > _SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            accuracy = report.accuracy["val"]
            yield f"teacher {wish.arch}: epoch {report.epoch}/{training.epochs}, accuracy {accuracy:.4f}"
    return report.network, report.accuracy
