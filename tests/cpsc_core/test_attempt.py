import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpsc_core import attempt as module
from cpsc_core.attempt import (
    AttemptPaths,
    Point,
    append_line,
    attempts_of,
    make_folder,
    read_lines,
    replacing,
    write_json,
    write_lines,
)


def lines(count: int) -> list[dict[str, Any]]:
    return [
        {"epoch": epoch, "seconds": epoch / 3, "val_accuracy": 1 / epoch} for epoch in range(1, count + 1)
    ]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lines") / "metrics.jsonl"


@pytest.fixture
def test_lines_come_back_to_the_bit(tmp_path: Path) -> None:
    for line in lines(3):
        append_line(tmp_path / "metrics.jsonl", line)

    assert read_lines(tmp_path / "metrics.jsonl") == lines(3)


def test_no_file_is_no_lines(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "metrics.jsonl") == []


@given(cut=st.integers(min_value=0))
def test_a_torn_line_is_left_out(scratch: Path, cut: int) -> None:
    write_lines(scratch, lines(4))
    whole = scratch.read_bytes()
    cut %= len(whole)

    scratch.write_bytes(whole[:cut])

    found = read_lines(scratch)
    assert found == lines(len(found))
    assert len(found) >= whole[:cut].count(b"\n")


@given(cut=st.integers(min_value=1))
def test_a_line_after_a_torn_one_is_not_lost(scratch: Path, cut: int) -> None:
    write_lines(scratch, lines(3))
    whole = scratch.read_bytes()
    scratch.write_bytes(whole[: cut % len(whole)])

    append_line(scratch, {"epoch": 9})

    assert read_lines(scratch)[-1] == {"epoch": 9}


@given(flip=st.integers(min_value=0))
def test_a_flipped_bit_costs_the_lines_it_touches_at_most(scratch: Path, flip: int) -> None:
    write_lines(scratch, lines(5))
    content = bytearray(scratch.read_bytes())
    at = flip % (8 * len(content))
    content[at // 8] ^= 1 << at % 8

    scratch.write_bytes(content)

    assert sum(line in lines(5) for line in read_lines(scratch)) >= 3


def test_of_an_epoch_written_twice_the_first_line_counts(tmp_path: Path) -> None:
    for seconds in (1.0, 2.0):
        append_line(tmp_path / "metrics.jsonl", {"epoch": 1, "seconds": seconds})

    assert read_lines(tmp_path / "metrics.jsonl") == [{"epoch": 1, "seconds": 1.0}]


def test_a_line_is_whole_even_if_the_disk_takes_it_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(module.os, "write", lambda handle, data: write(handle, data[:3]))

    append_line(tmp_path / "metrics.jsonl", lines(1)[0])

    assert read_lines(tmp_path / "metrics.jsonl") == lines(1)


def test_a_full_disk_is_reported_even_if_a_part_of_the_line_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def nearly_full(handle: int, data: bytes) -> int:
        if os.fstat(handle).st_size:
            raise OSError(28, "No space left on device")
        return write(handle, data[:5])

    monkeypatch.setattr(module.os, "write", nearly_full)

    with pytest.raises(OSError, match="No space left"):
        append_line(tmp_path / "metrics.jsonl", lines(1)[0])


def test_a_replaced_file_stays_as_it_was_if_the_block_fails(tmp_path: Path) -> None:
    write_json(tmp_path / "process.json", {"pid": 1})

    with pytest.raises(RuntimeError), replacing(tmp_path / "process.json") as draft:
        draft.write_text("half")
        raise RuntimeError

    assert json.loads((tmp_path / "process.json").read_text()) == {"pid": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["process.json"]


def test_a_replaced_file_is_on_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    rename = Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: events.append(Path(f"/proc/self/fd/{handle}").resolve().name)
    )
    monkeypatch.setattr(
        Path, "replace", lambda draft, target: (events.append("rename"), rename(draft, target))[1]
    )

    write_json(tmp_path / "process.json", {})

    assert events == [f".process.json.{os.getpid()}.draft", "rename", tmp_path.name]


@given(points=st.sets(st.builds(Point, st.integers(0, 99_999), st.integers(0, 99_999))))
@settings(max_examples=30)
def test_checkpoints_are_listed_in_the_order_of_training(
    tmp_path_factory: pytest.TempPathFactory, points: set[Point]
) -> None:
    paths = AttemptPaths.of(tmp_path_factory.mktemp("trial"), 1)
    for point in points:
        paths.checkpoint(*point).mkdir(parents=True)

    assert paths.checkpoint_points() == sorted(points)


def test_drafts_and_strangers_are_no_checkpoints(tmp_path: Path) -> None:
    paths = AttemptPaths.of(tmp_path, 1)
    for name in (".epoch-0001.77.draft", "epoch-1", "epoch-0001-iteration-2", "notes"):
        (paths.checkpoints / name).mkdir(parents=True)

    assert paths.checkpoint_points() == []


def test_sample_grids_are_listed_by_epoch(tmp_path: Path) -> None:
    paths = AttemptPaths.of(tmp_path, 1)
    assert paths.sample_epochs() == []
    paths.samples.mkdir(parents=True)
    for epoch in (10, 1):
        paths.sample(epoch).touch()

    assert paths.sample_epochs() == [1, 10]


def test_attempts_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    assert attempts_of(tmp_path) == []
    for number in (10, 2, 1):
        AttemptPaths.of(tmp_path, number).root.mkdir(parents=True)

    assert [each.number for each in attempts_of(tmp_path)] == [1, 2, 10]


def test_every_file_has_the_name_that_the_documentation_gives_it(tmp_path: Path) -> None:
    paths = AttemptPaths.of(tmp_path, 3)

    assert {
        str(path.relative_to(tmp_path))
        for path in (
            paths.process,
            paths.metrics,
            paths.log,
            paths.checkpoint(10),
            paths.checkpoint(10, 3),
            paths.sample(10),
            paths.per_class,
            paths.student,
            paths.generator,
            paths.end,
        )
    } == {
        "attempts/3/process.json",
        "attempts/3/metrics.jsonl",
        "attempts/3/log.txt",
        "attempts/3/checkpoints/epoch-0010",
        "attempts/3/checkpoints/epoch-0010-iteration-0003",
        "attempts/3/samples/epoch-0010.png",
        "attempts/3/per_class.json",
        "attempts/3/student.safetensors",
        "attempts/3/generator.safetensors",
        "attempts/3/end.json",
    }


def test_a_folder_is_made_with_those_above_it_and_their_names_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(module, "make_durable", synced.append)

    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")

    assert (tmp_path / "a" / "b").is_dir()
    assert sorted(synced) == [tmp_path, tmp_path / "a"]
