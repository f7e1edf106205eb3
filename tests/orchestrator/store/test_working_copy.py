import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cpsc_core.attempt import AttemptPaths, Point
from orchestrator.errors import UnreachableError
from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket
from orchestrator.store.copied_folder import CopiedFolder
from orchestrator.store.working_copy import (
    address_of,
    copy_of,
    discard,
    fetch,
    open_copy,
    open_storage,
    origin_of,
    publish,
    refresh,
)


@pytest.fixture
def copy(remote: BucketAddress) -> CopiedFolder:
    return open_copy(remote)


def files(root: Path) -> set[str]:
    """What a reader of a folder meets."""
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return {each for each in found if not each.startswith(".")}


def test_a_copy_shows_what_the_bucket_has_and_no_more(copy: CopiedFolder) -> None:
    copy.bucket.write("digits/manifest.json", b"{}")
    copy.bucket.write("digits/trials/a/trial.json", b"{}")
    (copy.root / "digits/trials/b").mkdir(parents=True)
    (copy.root / "digits/trials/b/trial.json").write_text("{}")

    copy.pull(copy.root / "digits")

    assert files(copy.root) == {"digits/manifest.json", "digits/trials/a/trial.json"}


def test_what_changed_in_the_bucket_changes_here_and_what_went_goes(copy: CopiedFolder) -> None:
    copy.bucket.write("digits/a", b"old")
    copy.bucket.write("digits/b", b"x")
    copy.pull(copy.root)
    copy.bucket.write("digits/a", b"new")
    copy.bucket.delete("digits/b")

    copy.pull(copy.root)

    assert files(copy.root) == {"digits/a"}
    assert (copy.root / "digits/a").read_bytes() == b"new"


def test_weights_and_checkpoints_come_when_they_are_asked_for(copy: CopiedFolder) -> None:
    attempt = "digits/trials/a/attempts/1"
    for name in ("metrics.jsonl", "student.safetensors", "checkpoints/epoch-0001/state.pt"):
        copy.bucket.write(f"{attempt}/{name}", name.encode())
    copy.bucket.write(f"{attempt}/checkpoints/epoch-0001/manifest.json", b"{}")
    copy.pull(copy.root)
    folder = copy.root / attempt
    assert files(folder) == {"metrics.jsonl"}
    assert AttemptPaths(folder).checkpoint_points() == [Point(1)]

    assert fetch(folder / "student.safetensors")
    assert fetch(folder / "checkpoints")
    assert not fetch(folder / "generator.safetensors")

    copy.pull(copy.root)
    assert (folder / "student.safetensors").read_bytes() == b"student.safetensors"
    assert (folder / "checkpoints/epoch-0001/state.pt").exists()


def test_a_checkpoint_that_the_bucket_lost_is_not_shown_any_more(copy: CopiedFolder) -> None:
    attempt = AttemptPaths(copy.root / "digits/trials/a/attempts/1")
    for epoch in (1, 2, 3):
        copy.bucket.write(f"digits/trials/a/attempts/1/checkpoints/epoch-000{epoch}/state.pt", b"x")
    copy.pull(copy.root)
    fetch(attempt.checkpoint(2))
    (attempt.checkpoint(1) / ".state.pt.1.draft").touch()
    for epoch in (1, 2):
        copy.bucket.delete_folder(f"digits/trials/a/attempts/1/checkpoints/epoch-000{epoch}")

    copy.pull(attempt.root)

    assert attempt.checkpoint_points() == [Point(3)]


def test_weights_that_the_bucket_lost_are_not_shown_any_more(copy: CopiedFolder) -> None:
    copy.bucket.write("digits/student.safetensors", b"x")
    fetch(copy.root / "digits/student.safetensors")
    copy.bucket.delete("digits/student.safetensors")

    copy.pull(copy.root / "digits")

    assert files(copy.root) == set()


def test_what_is_current_is_not_read_again(copy: CopiedFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    download = Bucket.download
    monkeypatch.setattr(
        Bucket, "download", lambda self, key, path: (read.append(key), download(self, key, path))[1]
    )
    copy.bucket.write("digits/old", b"x")
    _wait_for_the_next_second_but_one(copy.bucket)
    copy.bucket.write("digits/new", b"x")
    copy.pull(copy.root)
    read.clear()

    copy.pull(copy.root)

    assert read == ["digits/new"]  # which may still change within the second that the store noted


def test_a_published_file_is_in_the_bucket_and_a_discarded_one_is_not(copy: CopiedFolder) -> None:
    (copy.root / "digits/folder").mkdir(parents=True)
    for name in ("a", "folder/b", "folder/c"):
        (copy.root / "digits" / name).write_text(name)

    publish(copy.root / "digits/a", copy.root / "digits/folder/b", copy.root / "digits/folder/c")
    assert copy.bucket.read("digits/folder/b") == b"folder/b"

    discard(copy.root / "digits/a")
    discard(copy.root / "digits/folder", is_folder=True)
    assert copy.bucket.objects() == {}


def test_folders_that_are_no_copy_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")

    refresh(tmp_path)
    publish(tmp_path / "a")
    discard(tmp_path / "a")

    assert fetch(tmp_path / "a")
    assert not fetch(tmp_path / "b")
    assert copy_of(tmp_path) is None
    assert address_of(tmp_path) == str(tmp_path)
    assert origin_of(tmp_path) is None
    assert open_storage(tmp_path) == tmp_path


def test_a_copy_knows_its_address(copy: CopiedFolder, remote: BucketAddress) -> None:
    assert address_of(copy.root / "digits") == f"{remote}/digits"
    assert origin_of(copy.root) == remote
    assert open_storage(remote) == copy.root


def test_a_copy_that_was_deleted_is_made_again(copy: CopiedFolder, remote: BucketAddress) -> None:
    copy.bucket.write("digits/a", b"x")
    copy.pull(copy.root)
    shutil.rmtree(copy.root.parent)

    again = open_copy(remote)
    again.pull(again.root)

    assert files(again.root) == {"digits/a"}


def test_two_processes_never_share_a_copy(copy: CopiedFolder, remote: BucketAddress) -> None:
    program = textwrap.dedent(
        """
        import sys
        from orchestrator.store.address import BucketAddress
        from orchestrator.store.working_copy import open_copy
        print(open_copy(BucketAddress.parse(sys.argv[1])).root)
        """
    )
    command = [sys.executable, "-c", program, str(remote)]
    others = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)
    ]

    assert others[0] == others[1] != str(copy.root)


def test_a_bucket_that_is_not_there_is_named(remote: BucketAddress) -> None:
    with pytest.raises(UnreachableError, match="there is no bucket no-such-bucket"):
        open_copy(BucketAddress.parse("s3://no-such-bucket/runs"))


def test_an_object_named_like_a_folder_is_told(copy: CopiedFolder) -> None:
    copy.bucket.write("digits/trials/a", b"x")
    copy.pull(copy.root)
    copy.bucket.write("digits/trials/a/trial.json", b"{}")

    with pytest.raises(UnreachableError, match="an object and a folder of the name digits/trials/a"):
        copy.pull(copy.root)


def _wait_for_the_next_second_but_one(bucket: Bucket) -> None:
    (first,) = bucket.objects().values()
    moment = first.modified
    while moment - first.modified <= 2 * 10**9:
        bucket.write("clock", b"")
        moment = bucket.objects()["clock"].modified
    bucket.delete("clock")
