import os
import subprocess
from pathlib import Path

from orchestrator.store.drafts import remove_stale_drafts, remove_stale_drafts_of
from orchestrator.store.paths import StoragePaths
from orchestrator.store.shelf import Shelf


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
    ]
    for path in drafts:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")

    remove_stale_drafts(sweep.root)

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert attempt.checkpoints.is_dir()
    assert list(attempt.checkpoints.iterdir()) == []


def test_of_one_file_its_own_drafts_are_removed_and_what_belongs_to_them(tmp_path: Path) -> None:
    gone = ended_pid()
    others = [tmp_path / f".other.db.{gone}.draft", tmp_path / "below" / f".mlflow.db.{gone}.draft"]
    for path in (*others, *(tmp_path / f".mlflow.db.{gone}.draft{rest}" for rest in ("", "-wal", "-shm"))):
        path.parent.mkdir(exist_ok=True)
        path.touch()

    remove_stale_drafts_of(tmp_path / "mlflow.db")

    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(others)


def test_a_teachers_drafts_go_when_its_place_is_taken(tmp_path: Path) -> None:
    draft = tmp_path / "abc" / f".card.json.{ended_pid()}.draft"
    draft.parent.mkdir()
    draft.touch()

    with Shelf(tmp_path, "abc") as maker:
        assert maker.take()
        assert not draft.exists()
        draft.touch()  # as another machine's would be, whose numbers mean nothing here
        with Shelf(tmp_path, "abc") as other:
            assert not other.take()

    assert draft.exists()


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

    remove_stale_drafts(sweep.root)

    assert all(path.exists() for path in kept)
