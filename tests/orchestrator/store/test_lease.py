import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from orchestrator.errors import FencedError, OwnedError
from orchestrator.store.lease import Lease, read_owner

HOLD = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from orchestrator.store.lease import Lease
    lease = Lease.acquire(Path(sys.argv[1]))
    print("held", flush=True)
    time.sleep(60)
    """
)


def hold_elsewhere(path: Path) -> subprocess.Popen[str]:
    """Another process that owns the sweep until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "digits" / "lease"


@pytest.fixture(autouse=True)
def folder(path: Path) -> None:
    path.parent.mkdir()


def test_a_second_controller_is_refused_and_told_who_owns_the_sweep(path: Path) -> None:
    other = hold_elsewhere(path)

    with pytest.raises(OwnedError, match=rf"digits is owned by process {other.pid} on .*resume .*--takeover"):
        Lease.acquire(path)

    other.kill()
    other.wait()


def test_a_killed_owner_leaves_nothing_that_would_keep_the_next_one_out(path: Path) -> None:
    other = hold_elsewhere(path)
    other.kill()
    other.wait()

    with Lease.acquire(path, takeover=True) as lease:
        assert not lease.fences
        assert lease.generation == 2
        assert lease.previous["pid"] == other.pid


def test_the_generation_grows_with_every_owner(path: Path) -> None:
    generations = []
    for _ in range(3):
        with Lease.acquire(path) as lease:
            generations.append(lease.generation)

    assert generations == [1, 2, 3]


def test_an_owner_that_was_taken_over_may_not_write_any_more(path: Path) -> None:
    paused = Lease.acquire(path)

    with Lease.acquire(path, takeover=True) as new:
        assert new.fences
        new.check()
        with pytest.raises(FencedError, match="lost digits"):
            paused.check()
    paused.release()


def test_taking_over_does_not_let_a_third_controller_in(path: Path) -> None:
    paused = Lease.acquire(path)

    with Lease.acquire(path, takeover=True), pytest.raises(OwnedError):
        Lease.acquire(path)
    paused.release()


def test_a_note_reaches_the_next_owner(path: Path) -> None:
    Lease.acquire(path, note={"scratch": "/somewhere"}).release()

    with Lease.acquire(path) as lease:
        assert lease.previous["scratch"] == "/somewhere"


def test_the_owner_is_readable_while_it_lives_and_nobody_after(path: Path) -> None:
    assert read_owner(path) is None
    lease = Lease.acquire(path)
    there = read_owner(path)
    lease.release()

    assert there is not None
    assert f"process {os.getpid()}" in there
    assert read_owner(path) is None


def test_a_reader_that_probes_for_an_instant_does_not_keep_a_controller_out(path: Path) -> None:
    Lease.acquire(path).release()
    with path.open() as probe:
        fcntl.flock(probe, fcntl.LOCK_SH)
        child = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
        fcntl.flock(probe, fcntl.LOCK_UN)
    assert child.stdout is not None

    assert child.stdout.readline() == "held\n"
    child.kill()
    child.wait()


def test_of_sixteen_controllers_started_at_once_one_wins(path: Path) -> None:
    script = HOLD.replace("time.sleep(60)", "time.sleep(3)").replace(
        "lease = Lease.acquire(Path(sys.argv[1]))",
        "sys.stdin.readline()\ntry:\n    lease = Lease.acquire(Path(sys.argv[1]))\n"
        "except Exception as error:\n    print(type(error).__name__); sys.exit(0)",
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(16)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = sorted(racer.communicate()[0].strip() for racer in racers)

    assert answers == ["OwnedError"] * 15 + ["held"]


def test_the_lease_file_is_always_whole(path: Path) -> None:
    with Lease.acquire(path):
        content = json.loads(path.read_text())

    assert {"host", "pid", "boot", "started", "generation"} <= content.keys()


def test_an_owner_that_was_stopped_and_taken_over_finds_out_when_it_goes_on(path: Path) -> None:
    script = HOLD.replace(
        "time.sleep(60)",
        "while True:\n    time.sleep(0.02)\n    try:\n        lease.check()\n"
        "    except Exception as error:\n        sys.exit(error.exit_code)",
    )
    paused = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert paused.stdout is not None
    assert paused.stdout.readline() == "held\n"
    paused.send_signal(signal.SIGSTOP)

    with Lease.acquire(path, takeover=True) as new:
        paused.send_signal(signal.SIGCONT)

        assert paused.wait(timeout=10) == FencedError.exit_code
        new.check()
    paused.stdout.close()
