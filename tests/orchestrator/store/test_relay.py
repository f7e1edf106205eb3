import time
from collections.abc import Callable

import pytest

from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket
from orchestrator.store.object_lease import ObjectLease, Rhythm
from orchestrator.store.paths import SweepPaths
from orchestrator.store.relay import Relay, forget_stop, push_views
from orchestrator.store.working_copy import open_copy


@pytest.fixture
def paths(remote: BucketAddress) -> SweepPaths:
    paths = SweepPaths(open_copy(remote).root / "digits")
    paths.trial("abc").attempts.mkdir(parents=True)
    return paths


@pytest.fixture
def bucket(remote: BucketAddress) -> Bucket:
    return Bucket(remote / "digits")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_request_from_elsewhere_reaches_the_controller_and_is_taken_back_in_the_end(
    remote: BucketAddress, paths: SweepPaths, bucket: Bucket
) -> None:
    bucket.write("stop", b"of an earlier run")
    with ObjectLease.acquire(remote / "digits", rhythm=Rhythm(settle_seconds=0.1)) as lease:
        forget_stop(paths, lease)
        assert not bucket.has("stop")
        with Relay(paths, lease):
            bucket.write("stop", b"")
            wait_for(paths.stop.exists)
        assert not paths.stop.exists()
        assert not bucket.has("stop")


def test_a_request_of_the_controller_reaches_the_bucket(
    remote: BucketAddress, paths: SweepPaths, bucket: Bucket
) -> None:
    with (
        ObjectLease.acquire(remote / "digits", rhythm=Rhythm(settle_seconds=0.1)) as lease,
        Relay(paths, lease),
    ):
        paths.stop.touch()
        wait_for(lambda: bucket.has("stop"))


def test_the_bucket_has_the_views_in_the_end_and_no_record_that_the_writer_did_not_send(
    remote: BucketAddress, paths: SweepPaths, bucket: Bucket
) -> None:
    paths.manifest.write_text("{}")
    with (
        ObjectLease.acquire(remote / "digits", rhythm=Rhythm(settle_seconds=0.1)) as lease,
        Relay(paths, lease),
    ):
        paths.report.write_text("<html>")
        paths.log.write_text("a word")
        paths.trial("abc").mirror.write_text("{}")

    sent = {key for key in bucket.objects() if not key.startswith("lease/")}
    assert sent == {"report.html", "controller.log", "trials/abc/mirror.json"}


def test_a_controller_that_was_taken_over_sends_nothing(
    remote: BucketAddress, paths: SweepPaths, bucket: Bucket
) -> None:
    rhythm = Rhythm(beat_seconds=0.2, settle_seconds=0.1)
    lost = ObjectLease.acquire(remote / "digits", rhythm=rhythm)
    with Relay(paths, lost), ObjectLease.acquire(remote / "digits", takeover=True, rhythm=rhythm):
        paths.report.write_text("<html>")

    assert not bucket.has("report.html")


def test_views_are_sent_when_a_command_has_made_them(paths: SweepPaths, bucket: Bucket) -> None:
    paths.report.write_text("<html>")

    push_views(paths)

    assert bucket.read("report.html") == b"<html>"
