import os
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import UnreachableError
from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket
from tests.support.serving import Fault, FaultProxy


@pytest.fixture
def bucket(anywhere: BucketAddress) -> Bucket:
    return Bucket(anywhere)


def test_what_is_written_is_listed_and_read_whole(bucket: Bucket) -> None:
    bucket.write("a/b.txt", b"hello")

    (stored,) = bucket.objects().values()

    assert (stored.key, stored.size) == ("a/b.txt", 5)
    assert abs(stored.modified / 1e9 - time.time()) < 10
    assert bucket.read("a/b.txt") == b"hello"
    assert bucket.objects("a").keys() == {"a/b.txt"}
    assert bucket.names() == ["a"]


def test_an_empty_place_lists_nothing_and_what_is_not_there_reads_as_none(bucket: Bucket) -> None:
    assert bucket.objects("nowhere") == {}
    assert bucket.read("nothing") is None
    assert not bucket.has("nothing")
    bucket.delete("nothing")
    bucket.delete_folder("nothing")


def test_a_file_larger_than_a_part_arrives_as_it_was(bucket: Bucket, tmp_path: Path) -> None:
    content = bytes(range(256)) * 80_000
    (tmp_path / "there").write_bytes(content)

    bucket.upload(tmp_path / "there", "big")
    bucket.download("big", tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == content


def test_a_removed_folder_leaves_its_neighbours(bucket: Bucket) -> None:
    for key in ("a/1/x", "a/1/y", "a/10/x"):
        bucket.write(key, b"")

    bucket.delete_folder("a/1")

    assert bucket.objects().keys() == {"a/10/x"}


def test_names_that_would_lead_out_of_a_folder_are_left_out(remote: BucketAddress) -> None:
    import pyarrow.fs

    files = pyarrow.fs.S3FileSystem(endpoint_override=_endpoint(), scheme="http")
    for key in ("good", "../canary", "a/../../canary"):
        with files.open_output_stream(f"{remote.path}/{key}") as stream:
            stream.write(b"x")

    assert Bucket(remote).objects().keys() == {"good"}


def test_a_bucket_that_does_not_exist_is_named_at_once(anywhere: BucketAddress) -> None:
    missing = Bucket(replace(anywhere, bucket="no-such-bucket"))
    began = time.monotonic()

    assert not missing.is_there()
    with pytest.raises(
        UnreachableError, match=r"://no-such-bucket/.* cannot be used, .*does not exist; check the address"
    ):
        missing.write("a", b"")

    assert time.monotonic() - began < 3


@pytest.mark.parametrize("address", ["s3://runs/a?", "gs://runs/a?anonymous=true&scheme=http&"])
def test_a_store_that_does_not_answer_is_told_in_one_sentence_without_credentials(
    remote: BucketAddress, address: str
) -> None:
    address += "endpoint_override=127.0.0.1:9"

    with pytest.raises(UnreachableError, match=r"asked to write b: .*onnect") as refusal:
        Bucket(BucketAddress.parse(address), pauses=()).write("b", b"")

    assert "canary" not in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    assert len(str(refusal.value)) < 350


def test_errors_that_pass_are_tried_again(remote: BucketAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket(remote)
    bucket.write("a", b"x")
    proxy = FaultProxy(f"http://{_endpoint()}", faults=[Fault(answer=503)], share=1.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    try:
        with pytest.raises(UnreachableError, match="asked to list it"):
            Bucket(bucket.address, pauses=()).objects()
        tries_of_pyarrow = len(proxy.met)
        proxy.chance = _Once(tries_of_pyarrow)
        assert Bucket(bucket.address, pauses=(0.1,)).objects().keys() == {"a"}
    finally:
        proxy.close()


class _Once(random.Random):
    """The first so many requests meet a fault."""

    def __init__(self, count: int) -> None:
        super().__init__(0)
        self._left = count

    def random(self) -> float:
        self._left -= 1
        return 0.0 if self._left >= 0 else 2.0

    def choice(self, seq: Sequence[Any]) -> Any:
        """The first: Random's own would ask for numbers below one until it gets some, and for ever."""
        return seq[0]


def test_a_full_disk_here_is_not_taken_for_a_failing_store(bucket: Bucket) -> None:
    bucket.write("a", b"x" * 100_000)

    with pytest.raises(OSError, match="No space left"):
        bucket.download("a", Path("/dev/full"))


def _endpoint() -> str:
    return os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
