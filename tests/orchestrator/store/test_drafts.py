import os
import subprocess
from pathlib import Path

from orchestrator.store.drafts import remove_stale_drafts
from orchestrator.store.paths import StoragePaths


def ended_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_drafts_of_processes_that_are_gone_are_removed_wherever_a_sweep_writes(tmp_path: Path) -> None:
    sweep = StoragePaths(tmp_path).sweep("toy")
    gone = ended_pid()
    attempt = sweep.trial("a").attempt(1)
    drafts = [
        sweep.root / f".manifest.json.{gone}.draft",
        sweep.trial("a").root / f".result.json.{gone}.draft",
        attempt.checkpoints / f".epoch-0002.{gone}.draft" / "state.pt",
        tmp_path / f".mlflow.db.{gone}.draft",
        tmp_path / f".mlflow.db.{gone}.draft-wal",
        tmp_path / "teachers" / "t" / f".card.json.{gone}.draft",
    ]
    for path in drafts:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        os.utime(path, (0, 0))

    remove_stale_drafts(sweep)

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert attempt.checkpoints.is_dir()
    assert list(attempt.checkpoints.iterdir()) == []


def test_drafts_of_what_sweeps_share_stay_while_another_machine_may_be_at_them(tmp_path: Path) -> None:
    sweep = StoragePaths(tmp_path).sweep("toy")
    elsewhere = ended_pid()  # a number that is somebody's on another machine
    shared = [
        tmp_path / f".mlflow.db.{elsewhere}.draft",
        tmp_path / "teachers" / "t" / f".card.json.{elsewhere}.draft",
    ]
    for path in shared:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")

    remove_stale_drafts(sweep)

    assert all(path.exists() for path in shared)


def test_what_is_no_draft_or_is_being_written_stays(tmp_path: Path) -> None:
    sweep = StoragePaths(tmp_path).sweep("toy")
    kept = [
        sweep.root / f".manifest.json.{os.getpid()}.draft",
        sweep.root / ".manifest.json.1.draft",
        sweep.root / "manifest.json",
        sweep.root / ".draft",
        sweep.root / ".note.draft.txt",
        tmp_path / "other" / f".manifest.json.{ended_pid()}.draft",
    ]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    remove_stale_drafts(sweep)

    assert all(path.exists() for path in kept)
