from pathlib import Path

import pytest

from cpsc_core.card import TeacherFolder
from orchestrator.errors import FencedError
from orchestrator.store import shelf as module
from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket
from orchestrator.store.object_lease import ObjectLease, Rhythm
from orchestrator.store.shelf import Shelf

QUICK = Rhythm(beat_seconds=0.2, settle_seconds=0.1)


@pytest.fixture
def teachers(remote: BucketAddress, monkeypatch: pytest.MonkeyPatch) -> BucketAddress:
    """Where teachers are kept, by makers who do not wait long."""
    monkeypatch.setattr(module, "ObjectLease", _Impatient)
    return remote / "teachers"


class _Impatient:
    @staticmethod
    def acquire(address: BucketAddress) -> ObjectLease:
        return ObjectLease.acquire(address, rhythm=QUICK)


def make(shelf: Shelf) -> None:
    files = TeacherFolder(shelf.folder)
    for path in (files.weights, files.probe, files.card):
        path.write_text(path.name)


def in_bucket(teachers: BucketAddress) -> set[str]:
    return {key for key in Bucket(teachers / "abc").objects() if not key.startswith("lease/")}


def test_in_a_folder_one_at_a_time_makes_a_teacher(tmp_path: Path) -> None:
    with Shelf(tmp_path, "abc") as second:
        with Shelf(tmp_path, "abc") as first:
            assert first.take()
            assert not second.take()
        assert second.take()
    assert first.folder == tmp_path / "abc"


def test_in_a_bucket_one_at_a_time_makes_a_teacher_and_the_other_is_given_it(teachers: BucketAddress) -> None:
    with Shelf(teachers, "abc") as first, Shelf(teachers, "abc") as second:
        assert first.take()
        assert not second.take()
        make(first)
        first.keep()
        TeacherFolder(second.folder).weights.unlink()

        assert second.take()

        assert TeacherFolder(second.folder).weights.read_text() == "teacher.safetensors"
    assert in_bucket(teachers) == {"teacher.safetensors", "probe.safetensors", "card.json"}


def test_a_teacher_that_never_became_whole_in_the_bucket_is_made_again(
    teachers: BucketAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Shelf(teachers, "abc") as shelf:
        assert shelf.take()
        make(shelf)
    with Shelf(teachers, "abc") as shelf:
        assert shelf.take()
        assert not TeacherFolder(shelf.folder).card.exists()


def test_the_card_comes_last(teachers: BucketAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    upload = Bucket.upload
    monkeypatch.setattr(
        Bucket, "upload", lambda self, path, key: (sent.append(key), upload(self, path, key))[1]
    )
    with Shelf(teachers, "abc") as shelf:
        shelf.take()
        make(shelf)
        shelf.keep()

    assert sent[-1] == "teachers/abc/card.json"


def test_whoever_lost_the_right_keeps_nothing(teachers: BucketAddress) -> None:
    with Shelf(teachers, "abc") as shelf:
        shelf.take()
        make(shelf)
        with ObjectLease.acquire(teachers / "abc", takeover=True, rhythm=QUICK), pytest.raises(FencedError):
            shelf.keep()

    assert in_bucket(teachers) == set()
