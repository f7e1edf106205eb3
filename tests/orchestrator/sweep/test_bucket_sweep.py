"""A sweep whose storage is a bucket, as a user runs it: it dies, its cache is deleted, and it goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket
from orchestrator.store.folder import SweepFolder, find_sweep
from orchestrator.store.working_copy import fetch
from tests.support.command import EXPERIMENT, document, start, wait_for
from tests.support.trials import digest

pytestmark = pytest.mark.slow

QUIET = ("--set", "pruner.name=none", "--set", "budget.trials=2", "--set", "confirm.top=0")


def found(folder: SweepFolder) -> dict[str, object]:
    """All that finished trials must have to the bit, by name."""
    digests = {}
    for trial in folder.trials():
        assert trial.result is not None
        attempt = trial.paths.attempt(trial.result.attempt)
        assert fetch(attempt.student) and fetch(attempt.generator)
        digests[trial.name] = (trial.result.state, trial.result.metrics, digest(attempt))
    return digests


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(
        EXPERIMENT.replace("epochs: 4", "epochs: 12").replace("samples_every: 2", "samples_every: 6")
    )
    return file


@pytest.fixture
def ranks(request: pytest.FixtureRequest) -> tuple[str, str]:
    """How many processes train a trial together."""
    return "--set", f"resources.workers={request.param}"


@pytest.fixture
def undisturbed(file: Path, ranks: tuple[str, str], tmp_path: Path) -> SweepFolder:
    """The sweep in a folder, run to its end."""
    process = start("sweep", file, "--storage", tmp_path / "folder", *QUIET, *ranks)
    with ended(process):
        process.communicate()
    return find_sweep("tiny", tmp_path / "folder")


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """The process and all that it started have ended when the block has."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("anywhere", "ranks"), [("remote", 1), ("remote", 2), ("google", 1)], indirect=True)
def test_a_sweep_that_was_killed_and_lost_its_cache_ends_as_one_in_a_folder_that_nobody_disturbed(
    anywhere: BucketAddress,
    file: Path,
    ranks: tuple[str, str],
    undisturbed: SweepFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket, cache = Bucket(anywhere), tmp_path / "cache"
    for path in undisturbed.paths.storage.teachers.rglob("*.*"):
        bucket.upload(path, path.relative_to(undisturbed.paths.storage.root).as_posix())
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    tracking = ("--set", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db")

    first = start("sweep", file, "--storage", str(anywhere), *QUIET, *ranks, *tracking)
    with ended(first):
        wait_for(lambda: _epochs(bucket) >= 3, 600)
    shutil.rmtree(cache)
    second = start("resume", str(anywhere / "tiny"))
    with ended(second):
        said, _ = second.communicate()

    assert second.returncode == 0, said
    there = find_sweep("tiny", anywhere)
    assert found(there) == found(undisturbed)
    assert max(len(trial.attempts) for trial in there.trials()) == 2
    status = document("status", "tiny", "--storage", str(anywhere))
    assert (status["state"], status["mirror"]["backlog"]) == ("complete", 0)
    assert bucket.has("tiny/report.html")
    assert not list(cache.rglob("state.pt"))
    texts = [bucket.read(key) or b"" for key in bucket.objects() if _is_text(key)]
    texts += [path.read_bytes() for path in cache.rglob("*") if path.is_file()]
    assert not any(b"testing-secret-canary" in text for text in texts)


def _epochs(bucket: Bucket) -> int:
    """Metrics lines that the bucket has."""
    keys = [key for key in bucket.objects("tiny") if key.endswith("metrics.jsonl")]
    return sum((bucket.read(key) or b"").count(b"\n") for key in keys)


def _is_text(key: str) -> bool:
    return key.endswith((".json", ".jsonl", ".txt", ".log", ".yaml", ".html"))
