from pathlib import Path

import pytest
import torch

from cpsc_core.attempt import AttemptPaths, append_line
from cpsc_core.checkpoint import save_checkpoint
from orchestrator.controller.retention import find_litter, remove_litter, trim
from orchestrator.errors import FencedError
from orchestrator.store.lease import Lease
from orchestrator.store.records import TrialState
from tests.support.folders import MadeSweep

UNFINISHED = None


@pytest.fixture
def sweep(tmp_path: Path) -> MadeSweep:
    return MadeSweep(tmp_path)


def attempt(sweep: MadeSweep, name: str, number: int, *epochs: int) -> AttemptPaths:
    """An attempt of a trial that has finished some epochs and has kept checkpoints of them."""
    paths = sweep.paths.trial(name).attempt(number)
    paths.checkpoints.mkdir(parents=True, exist_ok=True)
    paths.metrics.unlink(missing_ok=True)
    for epoch in range(1, max(epochs) + 1):
        append_line(paths.metrics, {"epoch": epoch, "seconds": 1.0, "val_accuracy": 0.5})
    for epoch in epochs:
        save_checkpoint(
            paths.checkpoint(epoch), {"x": torch.zeros(9)}, trial=name, attempt=number, epoch=epoch
        )
    return paths


def litter(sweep: MadeSweep) -> set[str]:
    """What may go, as paths below the trials' folder."""
    return {str(each.path.relative_to(sweep.paths.trials)) for each in find_litter(sweep.folder, None)}


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (TrialState.COMPLETE, {"2/checkpoints/epoch-0004"}),
        (TrialState.PRUNED, set()),
        (TrialState.FAILED, set()),
        (UNFINISHED, {"2/checkpoints/epoch-0003", "2/checkpoints/epoch-0004"}),
    ],
)
def test_what_a_trial_keeps_depends_on_where_it_stands(
    sweep: MadeSweep, state: TrialState | None, kept: set[str]
) -> None:
    name = sweep.trial(0, [0.5], state=state)
    attempt(sweep, name, 1, 1, 2)
    attempt(sweep, name, 2, 3, 4)
    held = {f"1/checkpoints/epoch-000{epoch}" for epoch in (1, 2)}
    held |= {f"2/checkpoints/epoch-000{epoch}" for epoch in (3, 4)}

    assert litter(sweep) == {f"{name}/attempts/{each}" for each in held - kept}


def test_an_unfinished_trial_keeps_what_it_can_go_on_from(sweep: MadeSweep) -> None:
    """Newer ones that do not hold, or whose lines are gone, are no reason to give up older ones that do."""
    name = sweep.trial(0, [0.5], state=UNFINISHED)
    attempt(sweep, name, 1, 1, 2, 3)
    broken = attempt(sweep, name, 2, 4)
    (broken.checkpoint(4) / "state.pt").write_bytes(b"rust")
    attempt(sweep, name, 3, 5).metrics.unlink()

    assert litter(sweep) == {f"{name}/attempts/1/checkpoints/epoch-0001"}


def test_an_unfinished_trial_keeps_everything_if_nothing_holds(sweep: MadeSweep) -> None:
    name = sweep.trial(0, [0.5], state=UNFINISHED)
    paths = attempt(sweep, name, 1, 1, 2, 3)
    for epoch in (1, 2):
        (paths.checkpoint(epoch) / "state.pt").write_bytes(b"rust")

    assert litter(sweep) == set()


def test_leftovers_of_interrupted_writes_may_go_wherever_they_lie(sweep: MadeSweep) -> None:
    name = sweep.trial(0, [0.5])
    attempt(sweep, name, 1, 4)
    torn = sweep.paths.trial(name).attempt(1).checkpoints / ".epoch-0005.77.draft"
    torn.mkdir()
    (torn / "state.pt").write_bytes(b"half")
    (sweep.paths.root / ".manifest.json.77.draft").write_text("half")

    found = find_litter(sweep.folder, None)

    assert {each.path.name for each in found} == {".epoch-0005.77.draft", ".manifest.json.77.draft"}
    assert [each.size for each in found] == [4, 4]


def test_the_folder_of_a_ray_that_is_gone_may_go_and_no_other(
    sweep: MadeSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scratch, precious = tmp_path / "cpsc-ray-1-2", tmp_path / "precious"
    for each in (scratch, precious):
        each.mkdir()

    assert [each.path for each in find_litter(sweep.folder, str(scratch))] == [scratch]
    assert find_litter(sweep.folder, str(precious)) == []
    assert find_litter(sweep.folder, str(tmp_path / "cpsc-ray-3-4")) == []


def test_what_is_removed_is_gone_and_nothing_else_is(sweep: MadeSweep) -> None:
    name = sweep.trial(0, [0.5], state=TrialState.PRUNED)
    paths = attempt(sweep, name, 1, 1, 2)
    (paths.checkpoints / ".epoch-0003.77.draft").mkdir()
    before = {path for path in sweep.paths.root.rglob("*") if paths.checkpoints not in path.parents}

    with Lease.acquire(sweep.paths.lease) as lease:
        for each in find_litter(sweep.folder, None):
            remove_litter(each, lease)

    assert list(paths.checkpoints.iterdir()) == []
    assert before <= set(sweep.paths.root.rglob("*"))
    assert find_litter(sweep.folder, None) == []


def test_whoever_has_lost_the_sweep_removes_nothing(sweep: MadeSweep) -> None:
    name = sweep.trial(0, [0.5], state=TrialState.PRUNED)
    paths = attempt(sweep, name, 1, 1)
    (found,) = find_litter(sweep.folder, None)
    lease = Lease.acquire(sweep.paths.lease)

    with Lease.acquire(sweep.paths.lease, takeover=True), pytest.raises(FencedError):
        remove_litter(found, lease)

    assert paths.checkpoint(1).is_dir()
    lease.release()


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (TrialState.COMPLETE, {2: [4]}),
        (TrialState.PRUNED, {2: [4]}),
        (TrialState.FAILED, {1: [1, 2], 2: [3, 4]}),
    ],
)
def test_a_trial_that_has_just_ended_keeps_what_its_state_says(
    sweep: MadeSweep, state: TrialState, kept: dict[int, list[int]]
) -> None:
    name = sweep.trial(0, [0.5], state=state)
    attempts = [attempt(sweep, name, 1, 1, 2), attempt(sweep, name, 2, 3, 4)]
    (trial,) = sweep.folder.trials()

    with Lease.acquire(sweep.paths.lease) as lease:
        trim(trial, lease)

    held = {each.number: [point.epoch for point in each.checkpoint_points()] for each in attempts}
    assert {number: epochs for number, epochs in held.items() if epochs} == kept
