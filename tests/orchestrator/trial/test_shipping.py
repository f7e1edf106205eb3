"""Files that are sent by their content, through a real Ray."""

from pathlib import Path

import pytest

from cpsc_core.settings import TeacherSettings
from orchestrator.trial.failure import GangLostError
from orchestrator.trial.parcel import Parcel
from orchestrator.trial.shipping import cache_folder, pack, pack_teacher, unpack, unpack_teacher


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cpsc-orchestrate"


@pytest.fixture
def parcel(tmp_path: Path, scratch: Path) -> Parcel:
    (tmp_path / "teacher.pth").write_bytes(b"weights" * 50_000)
    return pack(tmp_path / "teacher.pth")


def test_a_file_arrives_under_its_name_and_digest(parcel: Parcel, cache: Path) -> None:
    path = unpack(parcel)

    assert cache == cache_folder()
    assert path == cache / parcel.sha256 / "teacher.pth"
    assert path.read_bytes() == b"weights" * 50_000
    assert [each.name for each in path.parent.iterdir()] == ["teacher.pth"]


def test_a_file_that_is_there_is_not_written_again(parcel: Parcel) -> None:
    before = unpack(parcel).stat()

    assert unpack(parcel).stat().st_ino == before.st_ino


def test_a_file_that_was_damaged_meanwhile_is_fetched_again(parcel: Parcel) -> None:
    path = unpack(parcel)
    path.write_bytes(b"weightz" * 50_000)

    assert unpack(parcel).read_bytes() == b"weights" * 50_000


def test_what_arrives_damaged_is_refused(parcel: Parcel) -> None:
    wrong = Parcel(name=parcel.name, sha256="0" * 64, ticket=parcel.ticket)

    with pytest.raises(GangLostError, match=r"teacher\.pth arrived damaged"):
        unpack(wrong)


def test_a_teacher_is_found_where_its_files_arrived_and_is_otherwise_the_same(
    teacher: TeacherSettings, scratch: Path, cache: Path
) -> None:
    sent = unpack_teacher(teacher, pack_teacher(teacher))

    assert Path(sent.weights).is_relative_to(cache)
    assert sent.probe is not None
    assert Path(sent.probe).is_relative_to(cache)
    assert Path(sent.weights).read_bytes() == Path(teacher.weights).read_bytes()
    assert (sent.arch, sent.sha256, sent.accuracy) == (teacher.arch, teacher.sha256, teacher.accuracy)


def test_a_teacher_that_is_not_sent_stays_where_it_is(teacher: TeacherSettings) -> None:
    assert unpack_teacher(teacher, {}) == teacher
