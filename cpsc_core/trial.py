"""One attempt at a trial: everything assembled, everything written, every epoch yielded.

What an epoch leaves is written in an order that makes a crash between any two writes harmless:

1. the sample grid, and after the last epoch accuracy by class, costs and the weights: a final line implies
   that they are there;
2. the metrics line: once it is there the epoch has happened, for everybody who reads the folder;
3. the checkpoint: it comes after its line, so whoever goes on from it finds the lines up to it. A crash
   between the two costs a repetition of the epoch, which gives the same line again, since every draw is a
   function of the epoch.

The first rank alone writes and scores; the others go on when it has.

No training image can be reached from here: only held-out splits are loaded, to be looked at by scores.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cpsc_core.attempt import (
    AttemptPaths,
    Point,
    append_line,
    attempts_of,
    make_durable,
    read_lines,
    write_json,
    write_lines,
)
from cpsc_core.checkpoint import Checkpoint, keep_newest, save_checkpoint, valid_checkpoints
from cpsc_core.costs import costs_of, watch_memory
from cpsc_core.data.labelled import PlacedData
from cpsc_core.distill.draws import seeded
from cpsc_core.distill.trainer import EpochReport, Trainer
from cpsc_core.errors import AttemptError, DataError, RankError, SettingsError
from cpsc_core.evaluate import Score, accuracies_by_class, accuracy_on, agreement_on, together
from cpsc_core.images import ImageSpec
from cpsc_core.probe import load_probe
from cpsc_core.process import describe_process, logging_to, using_threads, warn_of_drift
from cpsc_core.rank import ALONE, Rank
from cpsc_core.samples import write_grid
from cpsc_core.settings import TrialSettings
from cpsc_core.tables import METHODS, lookup
from cpsc_core.teacher import load_teacher
from cpsc_core.weights import build_network, save_tensors

__all__ = ["finished_line", "run_trial"]

logger = logging.getLogger(__name__)

Line = dict[str, Any]


def run_trial(
    settings: TrialSettings,
    trial_folder: Path,
    attempt: int,
    *,
    threads: int,
    device: str = "cpu",
    rank: Rank = ALONE,
    recompute: bool | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Line]:
    """Run a trial from its newest valid checkpoint to its end, yielding each metrics line once it is durable.

    Lines of epochs before that checkpoint are copied, not yielded. A trial that has finished yields its final
    line and trains nothing. When `should_stop` says so, the iterator saves a checkpoint after the
    iteration it is in and ends without a final line. On a CPU the lines (but for `seconds`) and the weights
    depend on the settings, `threads` and the number of ranks alone, however often the trial was interrupted.
    Each of several ranks runs this for itself, and each yields every line. `recompute` saves memory in this
    attempt whatever the settings say, and changes no result.

    Raises AttemptError if the attempt was begun before, DataError, TeacherError or SettingsError if the trial
    cannot be run here, DivergedError if it failed, RankError if another rank did, OSError if a disk is full.
    """
    if line := rank.ask(lambda: finished_line(trial_folder)):
        yield line
        return
    began = clock()
    paths = AttemptPaths.of(trial_folder, attempt)
    rank.ask(lambda: _begin(trial_folder, paths))
    if rank.any(not paths.root.is_dir()):
        raise RankError(f"not all ranks see {paths.root}, which the first made; let all see the same folder")
    with using_threads(threads), logging_to(paths.log, logging.INFO if rank.is_first else logging.ERROR):
        process = describe_process(device, rank)
        watch_memory(torch.device(device))
        rank.ask(lambda: write_json(paths.process, process | {"start": None}))
        bench = _assemble(settings, device, rank, recompute, should_stop, on_step)
        if start := _resume(bench.trainer, trial_folder, settings.identity(), paths):
            warn_of_drift(AttemptPaths.of(trial_folder, start["attempt"]).process, process)
            rank.ask(lambda: write_json(paths.process, process | {"start": start}))
        writer = _Writer(settings, paths, bench, lambda: clock() - began)
        for report in bench.trainer.fit(bench.each_epoch):
            yield rank.ask(partial(writer.write, report))
        rank.ask(writer.save_if_unsaved)


def finished_line(trial_folder: Path) -> Line | None:
    """The final line of a trial that has finished, None if it has not."""
    for attempt in reversed(attempts_of(trial_folder)):
        if lines := read_lines(attempt.metrics):
            return lines[-1] if lines[-1].get("final") else None
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What a trial is run with."""

    trainer: Trainer
    spec: ImageSpec
    each_epoch: Score
    at_the_end: Score
    by_class: Callable[[nn.Module], Line]


class _Writer:
    """Writes what an epoch leaves, in the order told at the top."""

    def __init__(
        self, settings: TrialSettings, paths: AttemptPaths, bench: _Bench, seconds: Callable[[], float]
    ) -> None:
        self._trial = settings.identity()
        self._train = settings.train
        self._paths = paths
        self._bench = bench
        self._seconds = seconds
        self._saved = self._point

    @property
    def _point(self) -> Point:
        return Point(self._bench.trainer.epoch, self._bench.trainer.iteration)

    def write(self, report: EpochReport) -> Line:
        """Write down an epoch and return its metrics line."""
        line = {"epoch": report.epoch, "seconds": 0.0, **report.metrics}
        if report.epoch == 1 or report.epoch % self._train.samples_every == 0 or report.final:
            self._save_samples(report.epoch)
        if report.final:
            line |= self._bench.at_the_end(self._bench.trainer.student)
            line["final"] = True
            write_json(self._paths.costs, costs_of(self._bench.trainer.student, self._bench.spec))
            write_json(self._paths.per_class, self._bench.by_class(self._bench.trainer.student))
            self._save_weights()
        line["seconds"] = self._seconds()
        append_line(self._paths.metrics, line)
        if report.epoch % self._train.checkpoint_every == 0 or report.final:
            self.save_if_unsaved()
        return line

    def save_if_unsaved(self) -> None:
        """Save a checkpoint of where the trainer is, unless there is one already."""
        point = self._point
        if point == self._saved:
            return
        save_checkpoint(
            self._paths.checkpoint(*point),
            self._bench.trainer.state_dict(),
            trial=self._trial,
            attempt=self._paths.number,
            epoch=point.epoch,
            iteration=point.iteration,
        )
        self._saved = point
        keep_newest(self._paths, 1 if point.epoch == self._train.epochs else 2)

    def _save_samples(self, epoch: int) -> None:
        images_BCHW, labels_B = self._bench.trainer.sample()
        write_grid(self._paths.sample(epoch), images_BCHW, labels_B, self._bench.spec)

    def _save_weights(self) -> None:
        save_tensors(self._paths.student, self._bench.trainer.student.state_dict())
        save_tensors(self._paths.generator, self._bench.trainer.generator.state_dict())


def _begin(trial_folder: Path, paths: AttemptPaths) -> None:
    try:
        paths.root.mkdir(parents=True)
    except FileExistsError as error:
        taken = ", ".join(str(each.number) for each in attempts_of(trial_folder))
        raise AttemptError(
            f"attempt {paths.number} of {trial_folder} was begun before; taken are {taken}: "
            "use the next number"
        ) from error
    for folder in (paths.checkpoints, paths.samples):
        folder.mkdir()
    for folder in (paths.root, paths.root.parent, trial_folder):
        make_durable(folder)


def _assemble(
    settings: TrialSettings,
    device: str,
    rank: Rank,
    recompute: bool | None,
    should_stop: Callable[[], bool],
    on_step: Callable[[], None],
) -> _Bench:
    placed = PlacedData.of(settings.data)
    rank.ask(lambda: _check_data(settings, placed))
    teacher = load_teacher(settings.teacher, placed.spec).to(device)
    with seeded(settings.train.seed, "student"):
        student = build_network(settings.student_arch, placed.spec)
    trainer = lookup(METHODS, settings.train.method)(
        settings.train,
        teacher=teacher,
        student=student,
        image=placed.spec,
        device=device,
        rank=rank,
        recompute=recompute,
        should_stop=should_stop,
        on_step=on_step,
    )
    if not rank.is_first:
        return _Bench(
            trainer=trainer,
            spec=placed.spec,
            each_epoch=together(),
            at_the_end=together(),
            by_class=partial(accuracies_by_class, teacher=teacher, splits={}, class_names=()),
        )
    held_out = {split: placed.load(split).to(device) for split in settings.splits}
    scores = {split: accuracy_on(split, images, on_step) for split, images in held_out.items()}
    each_epoch = [scores.pop("val")]
    if settings.teacher.probe is not None:
        probe = load_probe(Path(settings.teacher.probe), placed.spec).to(device)
        each_epoch.append(agreement_on(probe, teacher, on_step))
    return _Bench(
        trainer=trainer,
        spec=placed.spec,
        each_epoch=together(*each_epoch),
        at_the_end=together(*scores.values()),
        by_class=partial(
            accuracies_by_class,
            teacher=teacher,
            splits=held_out,
            class_names=placed.data_set.class_names,
            on_step=on_step,
        ),
    )


def _check_data(settings: TrialSettings, placed: PlacedData) -> None:
    if "val" not in settings.splits or not {"val", "test"}.issuperset(settings.splits):
        raise SettingsError(
            f"splits must be val, or val and test, but are {', '.join(settings.splits) or 'empty'}; "
            "a trial never sees the training split"
        )
    fingerprint = placed.fingerprint()
    if fingerprint != settings.data_fingerprint:
        raise DataError(
            f"the data set {settings.data.name} is not the one the trial was made for: its fingerprint is "
            f"{fingerprint[:12]}, but should be {settings.data_fingerprint[:12]}; restore the files"
        )


def _resume(trainer: Trainer, trial_folder: Path, trial: str, paths: AttemptPaths) -> Line | None:
    """Take the trainer to the newest checkpoint that holds; which one that is, None from the beginning."""
    found = _newest_usable(trial_folder, trial)
    start = None if found is None else {"attempt": found.attempt.number, **found.point._asdict()}
    if start != (of_first := trainer.rank.ask(lambda: start)):
        raise RankError(
            f"rank {trainer.rank.index} would go on from {start}, but the first rank from {of_first}; "
            f"let all of them see the same folder as {trial_folder}"
        )
    if found is None:
        logger.info("starting from the beginning")
        return None
    trainer.load_state_dict(found.state)
    # seconds are budgeted per attempt, and this one has spent none on the epochs it takes over
    lines = [line | {"seconds": 0.0} for line in _lines_before(found)]
    trainer.rank.ask(lambda: write_lines(paths.metrics, lines))
    logger.info("going on from %s of attempt %d", found.point, found.attempt.number)
    return start


def _newest_usable(trial_folder: Path, trial: str) -> Checkpoint | None:
    for checkpoint in valid_checkpoints(trial_folder, trial):
        epochs = [line["epoch"] for line in _lines_before(checkpoint)]
        if epochs == list(range(1, checkpoint.point.epoch + 1)):
            return checkpoint
        logger.warning(
            "skipping %s of attempt %d: its metrics file lacks epochs before it",
            checkpoint.point,
            checkpoint.attempt.number,
        )
    return None


def _lines_before(checkpoint: Checkpoint) -> list[Line]:
    lines = read_lines(checkpoint.attempt.metrics)
    return [line for line in lines if line["epoch"] <= checkpoint.point.epoch]
