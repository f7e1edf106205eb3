import hashlib
import os
from pathlib import Path

import pytest

from cpsc_core.data import digests as module
from cpsc_core.data.digests import file_digests
from cpsc_core.errors import DataError


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in "ab"]
    for path in made:
        path.write_text(path.name)
        os.utime(path, (1e9, 1e9))
    return made


def test_digests_are_those_of_the_content(paths: list[Path]) -> None:
    assert file_digests(paths) == [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def test_a_file_is_read_once(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = file_digests(paths)
    monkeypatch.setattr(module.hashlib, "sha256", lambda *_: pytest.fail("it was read again"))
    monkeypatch.setattr(
        module, "_name_of", lambda _: next((module.cache_folder() / "digests").iterdir()).stem
    )

    assert file_digests(paths) == first


@pytest.mark.parametrize("when", [1e9, 1e9 + 1])
def test_a_changed_file_is_read_again(paths: list[Path], when: float) -> None:
    before = file_digests(paths)
    paths[0].unlink()
    paths[0].write_text("c")
    os.utime(paths[0], (when, when))

    after = file_digests(paths)

    assert after[0] != before[0]
    assert after[1] == before[1]


def test_a_file_that_has_just_changed_is_not_remembered(paths: list[Path]) -> None:
    paths[0].write_text("fresh")
    file_digests(paths)
    stat = paths[0].stat()
    paths[0].write_text("hserf")
    os.utime(paths[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert file_digests(paths)[0] == hashlib.sha256(b"hserf").hexdigest()


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": [1]}', "\xff"])
def test_a_damaged_memory_is_no_memory(paths: list[Path], content: str, own_cache: Path) -> None:
    expected = file_digests(paths)
    [memory] = (own_cache / "cpsc-orchestrate" / "digests").iterdir()
    memory.write_text(content, encoding="latin-1")

    assert file_digests(paths) == expected


def test_without_a_place_to_remember_in_digests_are_made_all_the_same(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")

    assert len(file_digests(paths)) == 2


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone cannot be read: No such file"):
        file_digests([tmp_path / "gone"])
