"""gc, as a user calls it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.store.lease import Lease
from orchestrator.store.records import TrialState
from tests.support.folders import MadeSweep


@pytest.fixture
def sweep(tmp_path: Path) -> MadeSweep:
    """A sweep with a pruned trial that has a checkpoint of 2048 bytes."""
    sweep = MadeSweep(tmp_path)
    checkpoint = sweep.paths.trial(sweep.trial(0, [0.5], state=TrialState.PRUNED)).attempt(1).checkpoint(1)
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.pt").write_bytes(b"x" * 2048)
    return sweep


def gc(sweep: MadeSweep, *options: str) -> Result:
    return CliRunner().invoke(main, ["gc", str(sweep.paths.root), *options])


def checkpoints(sweep: MadeSweep) -> list[Path]:
    return list(sweep.paths.root.glob("trials/*/attempts/*/checkpoints/*"))


def test_what_goes_is_told_by_kind_with_what_it_frees(sweep: MadeSweep) -> None:
    result = gc(sweep)

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "   2.0 KiB  1 checkpoints of pruned trials",
        "digits: 2.0 KiB freed",
    ]
    assert checkpoints(sweep) == []
    assert gc(sweep).stdout == "digits holds nothing that it does not need\n"


def test_a_dry_run_says_the_same_and_removes_nothing(sweep: MadeSweep) -> None:
    result = gc(sweep, "--dry-run")

    assert (
        result.stdout.splitlines()[-1]
        == f"digits: `cpsc-orchestrate gc {sweep.paths.root}` would free 2.0 KiB"
    )
    assert len(checkpoints(sweep)) == 1
    assert not sweep.paths.lease.exists()


def test_json_names_every_path(sweep: MadeSweep) -> None:
    (path,) = checkpoints(sweep)

    document = json.loads(gc(sweep, "--json").stdout)

    assert document == {
        "sweep": "digits",
        "removed": True,
        "bytes": 2048,
        "litter": [{"path": str(path), "bytes": 2048, "kind": "checkpoints of pruned trials"}],
    }


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_sweep_that_is_running_is_left_alone(sweep: MadeSweep, options: list[str]) -> None:
    with Lease.acquire(sweep.paths.lease):
        result = gc(sweep, *options)

    assert result.exit_code == 5
    assert "is owned by process" in result.stderr
    assert len(checkpoints(sweep)) == 1


def test_the_folder_of_a_ray_that_is_gone_is_found_by_what_its_controller_noted(
    sweep: MadeSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scratch = tmp_path / "cpsc-ray-1-2"
    scratch.mkdir()
    Lease.acquire(sweep.paths.lease, note={"scratch": str(scratch)}).release()

    assert "files of a Ray that is gone" in gc(sweep, "--dry-run").stdout
    gc(sweep)

    assert not scratch.exists()
