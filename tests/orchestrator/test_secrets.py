"""A secret that a sweep is given is written down nowhere, nor is anything that runs when it is read."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.trial.failure import describe, trace
from tests.support.command import EXPERIMENT

CANARY = "CANARY-7f3a9c"
PICKLES = ("*.pkl", "*.pickle", "*.joblib", "*.npy")

GIVEN = {
    "MLFLOW_TRACKING_USERNAME": f"me-{CANARY}-user",
    "MLFLOW_TRACKING_PASSWORD": f"{CANARY}-password",
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}-aws",
    "HF_TOKEN": f"{CANARY}-hub",
    "HOOK": f"http://me:{CANARY}-hook@127.0.0.1:9/x?token={CANARY}-query",
    "STUDY": f"postgresql://me:{CANARY}-study@127.0.0.1:9/x",
    "NO_COLOR": "1",
}
"""A secret in everything a sweep may be given one in."""
TINY = (
    EXPERIMENT.replace("epochs: 4", "epochs: 2")
    .replace("budget: {trials: 6}", "budget: {trials: 2}")
    .replace("confirm: {top: 1, seeds: 2}", "confirm: {top: 0}")
    + 'notify: {url: "${env:HOOK}"}\noptuna_storage: "${env:STUDY}"\n'
)


@dataclass
class Seen:
    """What a sweep left, and what it let be seen while it ran."""

    storage: Path
    code: int = -1
    said: str = ""
    titles: set[bytes] = field(default_factory=set)
    of_ray: list[str] = field(default_factory=list)
    files_of_ray: int = 0


def holders(folder: Path) -> list[str]:
    """Files that hold a secret."""
    done = subprocess.run(["grep", "-rlaF", CANARY, str(folder)], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """A small sweep that was given secrets, watched from outside."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "tiny.yaml").write_text(TINY)
    found = Seen(folder / "storage")
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from orchestrator.cli import main; main()", "sweep"),
            *(str(folder / "tiny.yaml"), "--storage", str(found.storage)),
        ],
        stdout=(folder / "said").open("wb"),
        stderr=subprocess.STDOUT,
        env={**os.environ, **GIVEN},
        start_new_session=True,
    )
    while process.poll() is None:
        found.titles |= set(_titles())
        for scratch in Path(tempfile.gettempdir()).glob(f"cpsc-ray-{process.pid}-*"):
            found.of_ray += holders(scratch)
            found.files_of_ray = max(found.files_of_ray, sum(1 for _ in scratch.rglob("*")))
        time.sleep(1.0)
    found.code, found.said = process.returncode, (folder / "said").read_text()
    yield found


def _titles() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:
            continue


pytestmark = pytest.mark.slow


def test_the_sweep_itself_was_a_good_one(seen: Seen) -> None:
    assert seen.code == 0, seen.said
    assert (seen.storage / "mlflow.db").is_file()
    assert seen.files_of_ray > 20


def test_no_secret_is_in_the_sweeps_folder_or_in_mlflows_database_and_files(seen: Seen) -> None:
    assert holders(seen.storage) == []


def test_no_secret_was_in_rays_session(seen: Seen) -> None:
    assert sorted(set(seen.of_ray)) == []


def test_no_secret_was_said_or_stood_in_the_title_of_a_process(seen: Seen) -> None:
    assert CANARY not in seen.said
    assert not [title for title in seen.titles if CANARY.encode() in title]


def test_nothing_was_left_that_runs_when_it_is_read(seen: Seen) -> None:
    assert [path for pattern in PICKLES for path in seen.storage.rglob(pattern)] == []
    starts = {path: path.read_bytes()[:2] for path in seen.storage.rglob("*") if path.is_file()}
    assert {path: start for path, start in starts.items() if start[:1] == b"\x80"} == {}


def test_a_failure_is_told_without_the_secrets_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)

    try:
        raise RuntimeError(f"401 for {CANARY} at https://me:{CANARY}@host/?token={CANARY}")
    except RuntimeError as error:
        told = [describe(error), *trace(error)]

    assert told[0] == "RuntimeError: 401 for *** at https://***@host/?token=***"
    assert CANARY not in "".join(line for line in told if not line.strip().startswith("raise"))
