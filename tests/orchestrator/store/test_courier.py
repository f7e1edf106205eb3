import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cpsc_core.attempt import AttemptPaths, append_line
from orchestrator.errors import UnreachableError
from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket
from orchestrator.store.courier import Courier


@pytest.fixture
def trial(remote: BucketAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BucketAddress:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return remote / "digits/trials/abc"


@pytest.fixture
def courier(trial: BucketAddress) -> Iterator[Courier]:
    courier = Courier(trial, 2, sends=True)
    yield courier
    courier.close()


def write(courier: Courier, *names: str) -> None:
    """Write files of the attempt."""
    root = AttemptPaths.of(courier.folder, 2).root
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def epoch(courier: Courier, number: int) -> dict[str, Any]:
    """What an epoch leaves, as a trial writes it."""
    line = {"epoch": number}
    write(courier, f"samples/epoch-{number:04d}.png", "student.safetensors")
    append_line(AttemptPaths.of(courier.folder, 2).metrics, line)
    write(courier, *(f"checkpoints/epoch-{number:04d}/{name}" for name in ("manifest.json", "state.pt")))
    return line


def in_bucket(trial: BucketAddress) -> set[str]:
    """What the bucket has of the attempt."""
    return {key.removeprefix("attempts/2/") for key in Bucket(trial).objects()}


def test_a_line_is_yielded_once_the_bucket_has_all_that_it_stands_for(
    courier: Courier, trial: BucketAddress
) -> None:
    lines = courier.follow(epoch(courier, number) for number in (1, 2))

    assert next(lines) == {"epoch": 1}

    assert in_bucket(trial) == {
        "samples/epoch-0001.png",
        "student.safetensors",
        "metrics.jsonl",
        "checkpoints/epoch-0001/state.pt",
        "checkpoints/epoch-0001/manifest.json",
    }
    assert next(lines) == {"epoch": 2}
    assert (Bucket(trial).read("attempts/2/metrics.jsonl") or b"").count(b"\n") == 2
    assert next(lines, None) is None


def test_whenever_a_sender_dies_what_is_there_is_worth_something(
    courier: Courier, trial: BucketAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    upload = Bucket.upload
    monkeypatch.setattr(
        Bucket, "upload", lambda self, path, key: (sent.append(key), upload(self, path, key))[1]
    )
    epoch(courier, 1)

    courier.send()

    order = [key.removeprefix("attempts/2/") for key in sent]
    assert set(order[:2]) == {"samples/epoch-0001.png", "student.safetensors"}
    assert order[2:] == [
        "metrics.jsonl",
        "checkpoints/epoch-0001/state.pt",
        "checkpoints/epoch-0001/manifest.json",
    ]


def test_a_checkpoint_that_was_dropped_goes_after_the_newer_one_has_come(
    courier: Courier, trial: BucketAddress
) -> None:
    epoch(courier, 1)
    courier.send()
    for path in sorted(AttemptPaths.of(courier.folder, 2).checkpoint(1).iterdir()):
        path.unlink()
    epoch(courier, 2)

    courier.send()

    checkpoints = {key.split("/")[1] for key in in_bucket(trial) if key.startswith("checkpoints/")}
    assert checkpoints == {"epoch-0002"}


def test_what_did_not_change_is_not_sent_again(
    courier: Courier, trial: BucketAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(courier, "process.json")
    courier.send()
    monkeypatch.setattr(Bucket, "upload", _refuse)

    courier.send()


def test_an_attempt_starts_with_what_earlier_ones_left_to_go_on_from(trial: BucketAddress) -> None:
    for key in (
        "trial.json",
        "attempts/1/metrics.jsonl",
        "attempts/1/process.json",
        "attempts/1/samples/epoch-0001.png",
        "attempts/1/student.safetensors",
        "attempts/1/checkpoints/epoch-0001/state.pt",
        "attempts/1/checkpoints/epoch-0001/manifest.json",
        "attempts/2/begun.json",
    ):
        Bucket(trial).write(key, key.encode())
    courier = Courier(trial, 2, sends=True)

    courier.fetch()

    found = {
        path.relative_to(courier.folder).as_posix() for path in courier.folder.rglob("*") if path.is_file()
    }
    assert found == {
        "attempts/1/metrics.jsonl",
        "attempts/1/process.json",
        "attempts/1/checkpoints/epoch-0001/state.pt",
        "attempts/1/checkpoints/epoch-0001/manifest.json",
    }
    assert not (courier.folder / "attempts/2").exists()
    courier.close()
    assert not courier.folder.exists()


def test_other_ranks_send_nothing(trial: BucketAddress) -> None:
    courier = Courier(trial, 2, sends=False)

    list(courier.follow(epoch(courier, number) for number in (1,)))
    courier.close()

    assert in_bucket(trial) == set()


def test_the_log_leaves_while_the_attempt_hangs(courier: Courier, trial: BucketAddress) -> None:
    courier.fetch()
    write(courier, "log.txt")

    deadline = time.monotonic() + 60
    while "log.txt" not in in_bucket(trial):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_log_is_sent_last_and_a_failing_store_does_not_hide_why_an_attempt_failed(
    trial: BucketAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    courier = Courier(trial, 2, sends=True)
    write(courier, "log.txt")
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "upload", _refuse)
        courier.send_log()
        with pytest.raises(UnreachableError):
            courier.send()
    courier.close()

    assert in_bucket(trial) == {"log.txt"}


def test_the_folder_of_a_killed_process_is_removed_by_the_next_one_and_that_of_a_living_one_is_not(
    trial: BucketAddress, tmp_path: Path
) -> None:
    program = textwrap.dedent(
        """
        import sys
        import tempfile
        from orchestrator.store.address import BucketAddress
        from orchestrator.store.courier import Courier
        tempfile.tempdir = sys.argv[2]
        courier = Courier(BucketAddress.parse(sys.argv[1]), 2, sends=True)
        print("there", flush=True)
        sys.stdin.readline()
        """
    )
    command = [sys.executable, "-c", program, str(trial), str(tmp_path)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "there\n"
    (folder,) = tmp_path.glob("cpsc-trial-*")
    Courier(trial, 2, sends=True).close()
    assert folder.exists()

    other.send_signal(signal.SIGKILL)
    other.wait()
    Courier(trial, 2, sends=True).close()

    assert not folder.exists()


def _refuse(*_: object) -> None:
    raise UnreachableError("the store does not answer")
