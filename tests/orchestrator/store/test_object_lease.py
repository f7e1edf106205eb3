import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest

from orchestrator.errors import FencedError, OwnedError, UnreachableError
from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket
from orchestrator.store.object_lease import ObjectLease, Rhythm, read_object_note, read_object_owner

QUICK = Rhythm(beat_seconds=0.5, life_seconds=60.0, settle_seconds=0.3)
SHORT_LIFE_SECONDS = 3.0

HOLD = textwrap.dedent(
    """
    import sys
    from orchestrator.errors import FencedError
    from orchestrator.store.address import BucketAddress
    from orchestrator.store.object_lease import ObjectLease, Rhythm
    lease = ObjectLease.acquire(
        BucketAddress.parse(sys.argv[1]), note={"scratch": "/somewhere"},
        rhythm=Rhythm(beat_seconds=0.5, life_seconds=float(sys.argv[2]), settle_seconds=0.3),
    )
    print("held", flush=True)
    sys.stdin.readline()
    try:
        lease.check()
    except FencedError:
        print("fenced", flush=True)
    else:
        print("holds", flush=True)
    """
)


def hold_elsewhere(address: BucketAddress, life_seconds: float = 60.0) -> subprocess.Popen[str]:
    """Another process that owns the sweep until it is killed."""
    command = [sys.executable, "-c", HOLD, str(address), str(life_seconds)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def from_another_machine(address: BucketAddress) -> None:
    """Rewrite the tokens as if their owner ran elsewhere, where nobody can look for its process."""
    bucket = Bucket(address / "lease")
    for key in bucket.objects():
        content = json.loads(bucket.read(key) or b"{}")
        bucket.write(key, json.dumps(content | {"host": "elsewhere"}).encode())


def in_threads(count: int, act: Callable[[], object]) -> list[object]:
    """What the act gave or raised in each of so many threads at once."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(act())
        except Exception as error:
            found.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.fixture
def sweep(anywhere: BucketAddress) -> BucketAddress:
    return anywhere / "digits"


def test_of_sixteen_that_start_at_once_exactly_one_owns_the_sweep(sweep: BucketAddress) -> None:
    found = in_threads(16, lambda: ObjectLease.acquire(sweep, rhythm=QUICK))

    (lease,) = [each for each in found if isinstance(each, ObjectLease)]
    lease.check()
    assert sum(isinstance(each, OwnedError) for each in found) == 15
    lease.release()
    assert len(Bucket(sweep / "lease").objects()) == 1


def test_a_second_controller_is_refused_and_told_who_owns_the_sweep(sweep: BucketAddress) -> None:
    with (
        ObjectLease.acquire(sweep, rhythm=QUICK) as lease,
        pytest.raises(
            OwnedError, match=rf"digits is owned by process {os.getpid()} on .*resume .*--takeover"
        ),
    ):
        ObjectLease.acquire(sweep, rhythm=QUICK)

    assert lease.generation == 1


def test_the_generation_grows_and_the_note_is_handed_on(sweep: BucketAddress) -> None:
    ObjectLease.acquire(sweep, note={"scratch": "/somewhere"}, rhythm=QUICK).release()

    assert read_object_note(sweep)["scratch"] == "/somewhere"
    with ObjectLease.acquire(sweep, rhythm=QUICK) as lease:
        assert (lease.generation, lease.previous["scratch"], lease.fences) == (2, "/somewhere", False)


def test_a_killed_owner_on_this_machine_keeps_nobody_out(sweep: BucketAddress) -> None:
    other = hold_elsewhere(sweep)
    other.kill()
    other.wait()

    assert read_object_owner(sweep) is None
    with ObjectLease.acquire(sweep, rhythm=QUICK) as lease:
        assert lease.previous["pid"] == other.pid


def test_an_owner_that_died_elsewhere_is_followed_once_the_store_has_not_heard_it_for_long_enough(
    sweep: BucketAddress,
) -> None:
    other = hold_elsewhere(sweep, SHORT_LIFE_SECONDS)
    other.kill()
    other.wait()
    from_another_machine(sweep)
    began = time.monotonic()

    with ObjectLease.acquire(sweep, rhythm=QUICK) as lease:
        assert lease.generation == 2

    assert time.monotonic() - began > SHORT_LIFE_SECONDS - 1.0


def test_whoever_takes_over_waits_until_a_paused_owner_has_counted_itself_out(sweep: BucketAddress) -> None:
    paused = hold_elsewhere(sweep, SHORT_LIFE_SECONDS)
    assert paused.stdin is not None and paused.stdout is not None
    paused.send_signal(signal.SIGSTOP)
    try:
        with ObjectLease.acquire(sweep, takeover=True, rhythm=QUICK) as lease:
            assert lease.fences
            assert lease.generation == 2
            paused.send_signal(signal.SIGCONT)
            paused.stdin.write("\n")
            paused.stdin.flush()
            assert paused.stdout.readline() == "fenced\n"
            lease.check()
    finally:
        paused.kill()
        paused.wait()


def test_a_living_owner_that_is_taken_over_knows_it_before_the_other_may_write(sweep: BucketAddress) -> None:
    lease = ObjectLease.acquire(sweep, rhythm=QUICK)

    with ObjectLease.acquire(sweep, takeover=True, rhythm=QUICK) as new:
        with pytest.raises(FencedError, match=f"lost digits to process {os.getpid()}"):
            lease.check()
        new.check()
    lease.release()


def test_of_two_that_take_over_at_once_one_does(sweep: BucketAddress) -> None:
    lease = ObjectLease.acquire(sweep, rhythm=QUICK)

    found = in_threads(4, lambda: ObjectLease.acquire(sweep, takeover=True, rhythm=QUICK))

    (new,) = [each for each in found if isinstance(each, ObjectLease)]
    new.check()
    with pytest.raises(FencedError):
        lease.check()
    new.release()


def test_an_owner_that_cannot_reach_the_store_counts_itself_out(
    sweep: BucketAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    rhythm = Rhythm(beat_seconds=0.2, life_seconds=1.5, settle_seconds=0.1)
    lease = ObjectLease.acquire(sweep, rhythm=rhythm)

    def refuse(*_: object) -> None:
        raise UnreachableError("the store does not answer")

    monkeypatch.setattr(Bucket, "write", refuse)
    time.sleep(2.0)

    with pytest.raises(FencedError, match=r"has not reached \w+://.*/digits.* for 1\.5 s .*resume '?\w+://"):
        lease.check()
    lease.release()


def test_who_owns_a_sweep_is_seen_from_outside_and_looking_leaves_nothing(sweep: BucketAddress) -> None:
    assert read_object_owner(sweep) is None
    assert read_object_note(sweep) == {}

    with ObjectLease.acquire(sweep, rhythm=QUICK):
        assert f"process {os.getpid()}" in (read_object_owner(sweep) or "")
        with pytest.raises(OwnedError):
            read_object_note(sweep)

    assert read_object_owner(sweep) is None
    assert len(Bucket(sweep / "lease").objects()) == 1


def test_who_may_only_read_still_sees_who_owns_a_sweep(
    sweep: BucketAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = hold_elsewhere(sweep)
    write = Bucket.write

    def refuse_clocks(bucket: Bucket, key: str, content: bytes) -> None:
        if key.startswith("clock"):
            raise UnreachableError("ACCESS_DENIED")
        write(bucket, key, content)

    monkeypatch.setattr(Bucket, "write", refuse_clocks)

    assert f"process {other.pid}" in (read_object_owner(sweep) or "")

    other.kill()
    other.wait()
