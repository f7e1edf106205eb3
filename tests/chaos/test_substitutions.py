"""What the checks are worth: parts of the product are replaced by naive ones, and each time it is noticed.

The product has no such switch; a test puts the naive part in its place. Each kind of trouble is gone through
with the product as it is, too, and then nobody complains.
"""

from __future__ import annotations

import json
import os
import random
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from cpsc_core import checkpoint
from cpsc_core.attempt import AttemptPaths
from cpsc_core.trial import run_trial
from orchestrator.controller.controller import Controller
from orchestrator.errors import FencedError, OwnedError
from orchestrator.store import folder, lease, writer
from orchestrator.store.drafts import remove_stale_drafts
from orchestrator.trial.assignment import Assignment
from tests.chaos.damage import damage_lines
from tests.chaos.lossy_disk import Loss, LossyDisk
from tests.chaos.witness import Witness, fingerprints
from tests.support.simulator import KilledError, Simulator, experiment, run
from tests.support.trials import digest, finish, tiny_teacher, tiny_trial

EPOCHS = 4
CONFIG = experiment(
    "budget.trials=5",
    f"train.epochs={EPOCHS}",
    "pruner.reduction_factor=2",
    "confirm.seeds=1",
    "sampler={name: tpe, options: {n_startup_trials: 2}}",
)
Break = Callable[[pytest.MonkeyPatch], None]
Trouble = Callable[[Path, Break], Iterator[list[str]]]


class Watched(Simulator):
    """A stand-in for the cluster with a witness, who looks whenever something has happened."""

    witness: Witness

    def _tick(self) -> None:
        self.witness.look()
        super()._tick()


class Visited(Watched):
    """While it stands still at some event, somebody else comes by."""

    visit_at: int
    visitor: Callable[[], None]

    def _tick(self) -> None:
        super()._tick()
        self.visit_at -= 1
        if self.visit_at == 0:
            self.visitor()

    def _open(self, assignment: Assignment) -> None:
        with suppress(FileExistsError):
            super()._open(assignment)


def run_watched(root: Path, witness: Witness, kill_after: int | None = None) -> None:
    simulator = Watched(kill_after=kill_after)
    simulator.witness = witness
    if root.exists():
        remove_stale_drafts(root)
    run(CONFIG, root, simulator)


def in_peace(tmp_path: Path) -> dict[str, str]:
    root = tmp_path / "peace" / "toy"
    run(CONFIG, root, Simulator())
    return fingerprints(root)


def go_on(root: Path, witness: Witness, peace: dict[str, str]) -> list[str]:
    """Run a sweep to its end; what there is to complain about."""
    try:
        run_watched(root, witness)
    except Exception as error:
        return [f"the sweep cannot be gone on with: {error!r}"]
    return judge(root, witness, peace)


def judge(root: Path, witness: Witness, peace: dict[str, str]) -> list[str]:
    witness.close()
    return witness.complaints + (["the table differs"] if fingerprints(root) != peace else [])


def killed(tmp_path: Path, break_it: Break) -> Iterator[list[str]]:
    """The controller is killed at an event, and resumed."""
    peace = in_peace(tmp_path)
    for event in range(2, 50, 3):
        with pytest.MonkeyPatch.context() as patch:
            break_it(patch)
            root = tmp_path / str(event) / "toy"
            witness = Witness(root)
            with suppress(KilledError):
                run_watched(root, witness, kill_after=event)
            yield go_on(root, witness, peace)


def torn(tmp_path: Path, break_it: Break) -> Iterator[list[str]]:
    """The controller is killed at an event and half a line is left behind."""
    peace = in_peace(tmp_path)
    for event in range(5, 40, 10):
        with pytest.MonkeyPatch.context() as patch:
            break_it(patch)
            root = tmp_path / str(event) / "toy"
            witness = Witness(root)
            with suppress(KilledError):
                run_watched(root, witness, kill_after=event)
            if path := damage_lines(root, "torn", random.Random(event)):
                witness.forgive(path)
            yield go_on(root, witness, peace)


def without_power(loss: Loss) -> Trouble:
    """Power is lost after an event, or right before an fsync, and comes back."""

    def trouble(tmp_path: Path, break_it: Break) -> Iterator[list[str]]:
        peace = in_peace(tmp_path)
        events = [(event, None) for event in range(5, 45, 12)]
        for at_event, at_sync in events + [(None, sync) for sync in range(6, 90, 4)]:
            root = (tmp_path / f"{at_event}-{at_sync}" / "toy").resolve()
            root.mkdir(parents=True)
            witness = Witness(root)
            with pytest.MonkeyPatch.context() as patch:
                disk = LossyDisk(root, strike_at=at_sync, error=KilledError())
                patch.setattr(os, "fsync", disk.fsync)
                break_it(patch)
                with suppress(KilledError):
                    run_watched(root, witness, kill_after=at_event)
            disk.lose_power(loss)
            yield go_on(root, witness, peace)

    return trouble


def visited(tmp_path: Path, break_it: Break) -> Iterator[list[str]]:
    """While a controller stands still a second one is started on the same sweep; then the first goes on."""
    peace = in_peace(tmp_path)
    for event in range(3, 40, 9):
        with pytest.MonkeyPatch.context() as patch:
            break_it(patch)
            root = tmp_path / str(event) / "toy"
            witness = Witness(root)

            def start_another(root: Path = root, witness: Witness = witness) -> None:
                with suppress(OwnedError):
                    run_watched(root, witness)

            first = Visited()
            first.witness, first.visit_at, first.visitor = witness, event, start_another
            with suppress(FencedError):
                run(CONFIG, root, first)
            yield judge(root, witness, peace)


def rotten(tmp_path: Path, break_it: Break) -> Iterator[list[str]]:
    """A bit of a checkpoint flips between an interruption and the next attempt."""
    torch.set_num_threads(1)
    settings = tiny_trial(tiny_teacher(tmp_path), epochs=3, iterations_per_epoch=1)
    peace = digest(finish(settings, tmp_path / "peace"))
    chance = random.Random(0)
    for turn in range(2):
        trial = tmp_path / str(turn)
        lines = run_trial(settings, trial, 1, threads=1)
        for _ in range(2):
            next(lines)
        lines.close()
        state = AttemptPaths.of(trial, 1).checkpoint(2) / "state.pt"
        content = bytearray(state.read_bytes())
        content[chance.randrange(len(content))] ^= 0x40
        state.write_bytes(content)
        with pytest.MonkeyPatch.context() as patch:
            break_it(patch)
            same = digest(finish(settings, trial, attempt=2)) == peace
        yield [] if same else ["lines or weights differ"]


TROUBLES: dict[str, Trouble] = {
    "killed": killed,
    "torn lines": torn,
    "power lost with names": without_power("names"),
    "power lost with contents": without_power("contents"),
    "a second controller": visited,
    "a flipped bit": rotten,
}


def sync_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "fsync", lambda handle: None)


def sync_no_folder(patch: pytest.MonkeyPatch) -> None:
    sync = os.fsync
    patch.setattr(os, "fsync", lambda handle: stat.S_ISDIR(os.fstat(handle).st_mode) or sync(handle))


def write_in_place(patch: pytest.MonkeyPatch) -> None:
    def create(path: Path, content: Any) -> bool:
        if path.exists():
            return False
        with path.open("w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        return True

    patch.setattr(writer, "_create", create)


def rename_what_is_not_synced(patch: pytest.MonkeyPatch) -> None:
    def create(path: Path, content: Any) -> bool:
        if path.exists():
            return False
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(content))
        draft.rename(path)
        return True

    patch.setattr(writer, "_create", create)


def own_what_others_own(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lease.fcntl, "flock", lambda handle, how: None)
    patch.setattr(lease.Lease, "check", lambda lease: None)


def seed_afresh_with_every_start(patch: pytest.MonkeyPatch) -> None:
    """The seed follows how often a controller has asked since it started, not the suggestion's number."""
    begin = Controller.__init__
    asked = [0]

    def begin_again(controller: Controller, *given: Any, **named: Any) -> None:
        asked[0] = 0
        begin(controller, *given, **named)

    patch.setattr(Controller, "__init__", begin_again)
    for module in [each for name, each in sys.modules.items() if name.startswith("orchestrator.study")]:
        if seed_of := getattr(module, "stream_seed", None):

            def seed(first: int, what: str, _number: int, *more: int, of: Any = seed_of) -> int:
                asked[0] += 1
                return int(of(first, what, asked[0] - 1, *more))

            patch.setattr(module, "stream_seed", seed)


def leave_undecided_what_was_undecided(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Controller, "_settle", lambda controller, trial: None)


def see_no_result(patch: pytest.MonkeyPatch) -> None:
    """Whoever starts again takes every trial for unfinished."""
    read = folder.TrialFolder.read.__func__  # type: ignore[attr-defined]

    def read_record(kind: Any, paths: Any) -> Any:
        trial = read(kind, paths)
        return trial and kind(trial.paths, trial.record, None)

    patch.setattr(folder.TrialFolder, "read", classmethod(read_record))


def trust_every_line(patch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    patch.setattr(folder, "read_lines", read)


def trust_every_checkpoint(patch: pytest.MonkeyPatch) -> None:
    def load(place: Path, trial: str) -> Any:
        return torch.load(place / "state.pt", weights_only=True)

    patch.setattr(checkpoint, "load_checkpoint", load)


BREAKS: list[tuple[Break, str]] = [
    (sync_nothing, "power lost with names"),
    (sync_nothing, "power lost with contents"),
    (sync_no_folder, "power lost with names"),
    (write_in_place, "power lost with contents"),
    (rename_what_is_not_synced, "power lost with contents"),
    (own_what_others_own, "a second controller"),
    (seed_afresh_with_every_start, "killed"),
    (leave_undecided_what_was_undecided, "killed"),
    (see_no_result, "killed"),
    (trust_every_line, "torn lines"),
    (trust_every_checkpoint, "a flipped bit"),
]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_product_as_it_is_goes_through(tmp_path: Path, trouble: str) -> None:
    complaints = list(TROUBLES[trouble](tmp_path, lambda patch: None))

    assert complaints == [[]] * len(complaints)
    assert complaints


@pytest.mark.parametrize(
    ("break_it", "trouble"), BREAKS, ids=[f"{each.__name__}, {trouble}" for each, trouble in BREAKS]
)
def test_a_naive_part_is_noticed(tmp_path: Path, break_it: Break, trouble: str) -> None:
    found = next((each for each in TROUBLES[trouble](tmp_path, break_it) if each), None)

    assert found, f"nobody noticed what {break_it.__name__} does when there is {trouble}"
