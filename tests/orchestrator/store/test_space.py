import errno
import os
from pathlib import Path

import pytest

from orchestrator.store.folder import read_json
from orchestrator.store.lease import Lease
from orchestrator.store.paths import SweepPaths
from orchestrator.store.records import AttemptEnd, EndClass
from orchestrator.store.space import Space
from orchestrator.store.writer import SweepWriter

MIB = 1024**2
FULL = OSError(errno.ENOSPC, "No space left on device")


class Disk:
    """A sweep's folder on a disk with as much room as a test says, and what was said about it."""

    def __init__(self, root: Path) -> None:
        self.paths = SweepPaths(root)
        self.paths.trials.mkdir(parents=True)
        self.free = 1000 * MIB
        self.said: list[str] = []
        self.stopped = False
        self.space = Space(
            self.paths,
            self.said.append,
            lambda: self.stopped,
            lambda _folder: self.free,
            glance_seconds=0.0,
            wait_seconds=0.0,
        )

    def checkpoint(self, trial: str, size: int) -> None:
        folder = self.paths.trials / trial / "attempts" / "1" / "checkpoints" / "epoch-0001"
        folder.mkdir(parents=True)
        with (folder / "state.pt").open("wb") as file:
            file.truncate(size)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "digits")


def test_a_trial_may_begin_where_there_is_room_and_nothing_is_said(disk: Disk) -> None:
    assert disk.space.suffices(4)
    assert disk.said == []


@pytest.mark.parametrize(("free", "enough"), [(599, False), (601, True)])
def test_three_of_the_largest_checkpoint_must_fit_for_each_trial_at_once(
    disk: Disk, free: int, enough: bool
) -> None:
    disk.checkpoint("a", 100 * MIB)
    disk.checkpoint("b", 50 * MIB)
    disk.free = free * MIB

    assert disk.space.suffices(2) is enough


def test_too_little_room_and_room_again_are_said_once_each(disk: Disk) -> None:
    disk.free = 1 * MIB
    assert [disk.space.suffices(1) for _ in range(3)] == [False] * 3
    disk.free = 100 * MIB
    assert [disk.space.suffices(1) for _ in range(3)] == [True] * 3

    assert [line.split(":")[0] for line in disk.said] == [
        f"the disk that holds {disk.paths.root} is full",
        "there is room on the disk again; going on",
    ]
    assert "1.0 MiB free, 16.0 MiB wanted" in disk.said[0]


def test_what_failed_on_a_full_disk_is_tried_again_until_somebody_asks_to_stop(disk: Disk) -> None:
    assert disk.space.wait(FULL)
    disk.stopped = True
    assert not disk.space.wait(FULL)
    assert len(disk.said) == 1


def test_other_failures_are_not_waited_for(disk: Disk) -> None:
    assert not disk.space.wait(OSError(errno.EACCES, "Permission denied"))
    assert disk.said == []


def fail_once(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The `number`-th fsync from now finds the disk full."""
    sync, calls = os.fsync, [0]

    def sometimes(handle: int) -> None:
        calls[0] += 1
        if calls[0] == number:
            raise FULL
        sync(handle)

    monkeypatch.setattr(os, "fsync", sometimes)


@pytest.mark.parametrize("number", range(1, 7))
def test_a_record_that_met_a_full_disk_is_written_once_there_is_room(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    end = AttemptEnd(ended=EndClass.PREEMPTED, cause="left")
    with Lease.acquire(disk.paths.lease) as lease:
        writer = SweepWriter(disk.paths, lease, disk.space.wait)
        fail_once(monkeypatch, number)
        writer.write_end("abc", 1, end)
        writer.write_manifest({"name": "digits"})

    assert read_json(disk.paths.trial("abc").attempt(1).end) == end.to_dict()
    assert read_json(disk.paths.manifest) == {"name": "digits"}
    assert list(disk.paths.root.rglob(".*draft*")) == []
    assert len(disk.said) == 1


def test_a_record_that_nobody_waits_for_leaves_nothing_behind(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lease.acquire(disk.paths.lease) as lease:
        fail_once(monkeypatch, 1)
        with pytest.raises(OSError, match="No space left"):
            SweepWriter(disk.paths, lease).write_manifest({"name": "digits"})

    assert not disk.paths.manifest.exists()
    assert list(disk.paths.root.glob(".*draft*")) == []
