import logging
import os
import random
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from cpsc_core.attempt import AttemptPaths, Point
from cpsc_core.checkpoint import (
    keep_newest,
    load_checkpoint,
    newest_valid,
    save_checkpoint,
    valid_checkpoints,
)
from cpsc_core.errors import CheckpointError

STATE = {"epoch": 1, "rate": 0.1, "name": "x", "weights": {"w": torch.arange(4.0), "n": torch.tensor(3)}}


def save(
    trial: Path, attempt: int, epoch: int, iteration: int = 0, state: Any = None, name: str = "t"
) -> Path:
    folder = AttemptPaths.of(trial, attempt).checkpoint(epoch, iteration)
    save_checkpoint(
        folder,
        STATE if state is None else state,
        trial=name,
        attempt=attempt,
        epoch=epoch,
        iteration=iteration,
    )
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """What a full disk does, for the files this process writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_state_comes_back_to_the_bit(tmp_path: Path) -> None:
    loaded = load_checkpoint(save(tmp_path, 1, 1), "t")

    assert torch.equal(loaded["weights"]["w"], torch.arange(4.0))
    assert {key: loaded[key] for key in ("epoch", "rate", "name")} == {"epoch": 1, "rate": 0.1, "name": "x"}


def test_every_flipped_bit_is_detected(tmp_path: Path) -> None:
    folder = save(tmp_path, 1, 1)
    files = {path: path.read_bytes() for path in folder.iterdir()}
    bits = [(path, bit) for path, content in files.items() for bit in range(8 * len(content))]
    manifest = [each for each in bits if each[0].suffix == ".json"]
    chance = random.Random(0)

    for path, bit in chance.sample(bits, 600) + chance.sample(manifest, 400):
        content = bytearray(files[path])
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            load_checkpoint(folder, "t")
        path.write_bytes(files[path])

    load_checkpoint(folder, "t")


@pytest.mark.parametrize("file", ["state.pt", "manifest.json"])
def test_every_truncation_is_detected(tmp_path: Path, file: str) -> None:
    path = save(tmp_path, 1, 1) / file
    content = path.read_bytes()

    for size in {0, 1, len(content) - 1, *range(0, len(content), max(1, len(content) // 20))}:
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match=f"{file} is damaged"):
            load_checkpoint(path.parent, "t")


@pytest.mark.parametrize("file", ["state.pt", "manifest.json"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    folder = save(tmp_path, 1, 1)
    (folder / file).unlink()

    with pytest.raises(CheckpointError, match=f"{file} cannot be read: No such file"):
        load_checkpoint(folder, "t")


def test_a_checkpoint_of_another_trial_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, 1, 1, name="other")

    with pytest.raises(CheckpointError, match="written by trial other, not by t"):
        load_checkpoint(folder, "t")


def test_a_state_swapped_with_another_trials_is_refused(tmp_path: Path) -> None:
    mine = save(tmp_path / "a", 1, 1)
    theirs = save(tmp_path / "b", 1, 1, state=STATE | {"rate": 0.2}, name="other")
    shutil.copy(theirs / "state.pt", mine / "state.pt")

    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(mine, "t")


def test_a_renamed_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, 1, 1)
    moved = folder.rename(AttemptPaths.of(tmp_path, 1).checkpoint(2))

    with pytest.raises(CheckpointError, match="holds the checkpoint of epoch-0001"):
        load_checkpoint(moved, "t")


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_state_that_is_more_than_values_runs_nothing(tmp_path: Path) -> None:
    folder = save(tmp_path, 1, 1, state={"a": Canary(tmp_path / "canary")})

    with pytest.raises(CheckpointError, match="holds more than tensors and plain values"):
        load_checkpoint(folder, "t")

    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("size", [0, 100, 1000, 100_000])
def test_a_full_disk_leaves_the_checkpoint_before_and_no_draft(tmp_path: Path, size: int) -> None:
    before = save(tmp_path, 1, 1)

    with files_limited_to(size), pytest.raises(OSError, match="File too large"):
        save(tmp_path, 1, 2, state={"w": torch.zeros(100_000)})

    assert names(before.parent) == ["epoch-0001"]
    load_checkpoint(before, "t")


def test_a_disk_that_is_too_full_for_the_manifest_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = save(tmp_path, 1, 1)
    open_file = Path.open

    def full(path: Path, *how: str) -> Any:
        if path.name == "manifest.json":
            raise OSError(28, "No space left on device")
        return open_file(path, *how)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 1, 2)

    assert names(before.parent) == ["epoch-0001"]


def test_a_checkpoint_is_on_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    rename = Path.rename
    monkeypatch.setattr(
        os, "fsync", lambda handle: events.append(Path(f"/proc/self/fd/{handle}").resolve().name)
    )
    monkeypatch.setattr(
        Path, "rename", lambda draft, target: (events.append("rename"), rename(draft, target))[1]
    )

    save(tmp_path, 1, 1)

    assert events == [
        "state.pt",
        "manifest.json",
        f".epoch-0001.{os.getpid()}.draft",
        "rename",
        "checkpoints",
    ]


def test_without_checkpoints_a_trial_starts_from_the_beginning(tmp_path: Path) -> None:
    assert newest_valid(tmp_path, "t") is None


def test_the_newest_point_wins_and_of_the_same_point_the_newest_attempt(tmp_path: Path) -> None:
    for attempt, epoch, iteration in [(1, 2, 0), (2, 2, 0), (2, 1, 7), (1, 1, 9), (10, 1, 3)]:
        save(tmp_path, attempt, epoch, iteration)

    found = [(each.attempt.number, each.point) for each in valid_checkpoints(tmp_path, "t")]

    assert found == [(2, (2, 0)), (1, (2, 0)), (1, (1, 9)), (2, (1, 7)), (10, (1, 3))]


def test_a_damaged_checkpoint_is_skipped_in_one_line_that_names_both(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = save(tmp_path, 1, 1), save(tmp_path, 2, 2)
    (bad / "state.pt").write_bytes(b"")

    with caplog.at_level(logging.WARNING):
        found = newest_valid(tmp_path, "t")

    assert found is not None
    assert found.point == Point(1)
    (record,) = caplog.records
    assert str(bad) in record.getMessage()
    assert f"going on from {good}" in record.getMessage()


def test_if_none_holds_a_trial_starts_over_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for epoch in (1, 2):
        (save(tmp_path, 1, epoch) / "manifest.json").write_text("{}")

    with caplog.at_level(logging.WARNING):
        assert newest_valid(tmp_path, "t") is None

    assert [record.getMessage().endswith("going on from the beginning") for record in caplog.records] == [
        True
    ] * 2


def test_checkpoints_that_are_not_needed_are_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (save(tmp_path, 1, 1) / "state.pt").write_bytes(b"")
    save(tmp_path, 1, 2)

    assert newest_valid(tmp_path, "t") is not None
    assert not caplog.records


def test_the_newest_two_are_kept_and_drafts_go(tmp_path: Path) -> None:
    attempt = AttemptPaths.of(tmp_path, 1)
    for epoch, iteration in ((1, 0), (2, 0), (2, 5), (3, 0)):
        save(tmp_path, 1, epoch, iteration)
    (attempt.checkpoints / ".epoch-0009.1.draft").mkdir()

    keep_newest(attempt)

    assert names(attempt.checkpoints) == ["epoch-0002-iteration-0005", "epoch-0003"]
