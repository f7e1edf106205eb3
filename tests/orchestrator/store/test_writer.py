import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import FencedError
from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket
from orchestrator.store.folder import TrialFolder
from orchestrator.store.lease import Lease
from orchestrator.store.object_lease import ObjectLease, Rhythm
from orchestrator.store.paths import SweepPaths
from orchestrator.store.records import AttemptEnd, Duplicate, EndClass, Result, Stage, TrialRecord, TrialState
from orchestrator.store.working_copy import copy_of, open_copy, refresh
from orchestrator.store.writer import SweepWriter


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SweepWriter]:
    paths = SweepPaths(tmp_path / "digits")
    paths.trials.mkdir(parents=True)
    with Lease.acquire(paths.lease) as lease:
        yield SweepWriter(paths, lease)


def record(**fields: Any) -> TrialRecord:
    plain: dict[str, Any] = {
        "name": "abc",
        "number": 0,
        "stage": Stage.SEARCH,
        "params": {"loss.ikd": 1.0},
        "distributions": {},
        "system_attrs": {},
        "settings": {},
        "created": 1.0,
        "generation": 1,
    }
    return TrialRecord(**(plain | fields))


def result(**fields: Any) -> Result:
    plain: dict[str, Any] = {
        "state": TrialState.COMPLETE,
        "objective": 0.5,
        "params": {},
        "metrics": {},
        "timing": {},
        "cause": None,
        "detail": None,
        "attempt": 1,
        "generation": 1,
    }
    return Result(**(plain | fields))


def read(writer: SweepWriter) -> TrialFolder:
    trial = TrialFolder.read(writer.paths.trial("abc"))
    assert trial is not None
    return trial


def test_records_come_back_as_they_were_written(writer: SweepWriter) -> None:
    writer.write_trial(record())
    writer.write_end("abc", 1, AttemptEnd(ended=EndClass.COMPLETE, seconds=2.0))
    writer.write_result("abc", result())

    trial = read(writer)

    assert (trial.record, trial.result) == (record(), result())
    assert trial.ends == {1: AttemptEnd(ended=EndClass.COMPLETE, seconds=2.0)}
    assert json.loads(trial.paths.attempt(1).end.read_text())["class"] == "complete"


def test_a_trial_that_exists_is_not_written_again(writer: SweepWriter) -> None:
    writer.write_trial(record())
    writer.write_trial(record(params={"loss.ikd": 2.0}))

    assert read(writer).record.params == {"loss.ikd": 1.0}


def test_a_second_result_of_the_same_generation_is_refused(writer: SweepWriter) -> None:
    writer.write_trial(record())
    writer.write_result("abc", result())

    with pytest.raises(FencedError, match="already has a result"):
        writer.write_result("abc", result(objective=0.9))
    assert read(writer).result == result()


def test_of_two_results_the_higher_generation_wins(writer: SweepWriter) -> None:
    writer.write_trial(record())
    writer.write_result("abc", result(generation=1))
    writer.write_result("abc", result(generation=2, objective=0.9))

    assert read(writer).result == result(generation=2, objective=0.9)


@pytest.mark.parametrize("what", ["trial", "result", "end", "duplicate", "manifest", "reopen"])
def test_a_controller_that_was_taken_over_writes_nothing(writer: SweepWriter, what: str) -> None:
    writer.write_trial(record())
    before = sorted(path for path in writer.paths.root.rglob("*") if path != writer.paths.lease)
    duplicate = Duplicate(number=1, name="abc", params={}, distributions={}, system_attrs={}, generation=1)
    act = {
        "trial": lambda: writer.write_trial(record(name="new")),
        "result": lambda: writer.write_result("abc", result()),
        "end": lambda: writer.write_end("abc", 1, AttemptEnd(ended=EndClass.STOPPED)),
        "duplicate": lambda: writer.write_duplicate(duplicate),
        "manifest": lambda: writer.write_manifest({}),
        "reopen": lambda: writer.reopen("abc"),
    }

    with Lease.acquire(writer.paths.lease, takeover=True), pytest.raises(FencedError):
        act[what]()

    after = sorted(path for path in writer.paths.root.rglob("*") if path != writer.paths.lease)
    assert after == before


def test_reopening_keeps_the_old_result_in_the_newest_attempt(writer: SweepWriter) -> None:
    writer.write_trial(record())
    for attempt in (1, 2):
        writer.write_end("abc", attempt, AttemptEnd(ended=EndClass.ERROR))
    writer.write_result("abc", result(state=TrialState.FAILED, objective=None, cause="error", attempt=2))

    writer.reopen("abc")

    trial = read(writer)
    assert trial.state is TrialState.RUNNING
    assert trial.failures() == []
    old = json.loads(trial.paths.old_result(2).read_text())
    assert old["cause"] == "error"


def test_no_draft_is_left_behind(writer: SweepWriter) -> None:
    writer.write_trial(record())
    writer.write_result("abc", result())
    writer.write_manifest({"sweep": "digits"})

    assert not list(writer.paths.root.rglob("*.draft"))


class KilledError(Exception):
    """The process dies here."""


@pytest.fixture
def remote_writer(remote: BucketAddress) -> Iterator[SweepWriter]:
    paths = SweepPaths(open_copy(remote).root / "digits")
    paths.trials.mkdir(parents=True)
    rhythm = Rhythm(settle_seconds=0.1)
    with ObjectLease.acquire(remote / "digits", rhythm=rhythm) as lease:
        yield SweepWriter(paths, lease)


def in_bucket(writer: SweepWriter) -> set[str]:
    """The records of a sweep that count."""
    copy = copy_of(writer.paths.root)
    assert copy is not None
    found = copy.bucket.objects(writer.paths.name)
    return {key.removeprefix("digits/") for key in found if "/lease/" not in key}


def test_a_record_is_in_the_bucket_when_it_is_written(remote_writer: SweepWriter) -> None:
    remote_writer.write_manifest({"sweep": "digits"})
    remote_writer.write_experiment("name: digits\n")
    remote_writer.write_trial(record())
    remote_writer.begin_attempt("abc", 1)
    remote_writer.write_end("abc", 1, AttemptEnd(ended=EndClass.COMPLETE))
    remote_writer.write_result("abc", result())

    assert in_bucket(remote_writer) == {
        "manifest.json",
        "sweep.yaml",
        "trials/abc/trial.json",
        "trials/abc/attempts/1/begun.json",
        "trials/abc/attempts/1/end.json",
        "trials/abc/result.json",
    }


@pytest.mark.parametrize(
    "write",
    [
        lambda writer: writer.write_manifest({}),
        lambda writer: writer.write_experiment("name: digits\n"),
        lambda writer: writer.write_trial(record(name="new")),
        lambda writer: writer.write_result("abc", result()),
        lambda writer: writer.write_end("abc", 1, AttemptEnd(ended=EndClass.COMPLETE)),
        lambda writer: writer.begin_attempt("abc", 2),
    ],
)
def test_what_was_written_here_but_not_to_the_bucket_never_happened(
    remote_writer: SweepWriter, monkeypatch: pytest.MonkeyPatch, write: Callable[[SweepWriter], None]
) -> None:
    remote_writer.write_trial(record())
    remote_writer.begin_attempt("abc", 1)
    before = in_bucket(remote_writer)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Bucket, "upload", _die)
        write(remote_writer)

    refresh(remote_writer.paths.root)

    assert in_bucket(remote_writer) == before == in_copy(remote_writer)
    write(remote_writer)
    assert in_bucket(remote_writer) == in_copy(remote_writer) != before


@pytest.mark.parametrize("dies_at", ["upload", "delete"])
def test_a_reopening_that_was_cut_short_leaves_the_trial_finished_and_can_be_repeated(
    remote_writer: SweepWriter, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    remote_writer.write_trial(record())
    remote_writer.begin_attempt("abc", 1)
    remote_writer.write_result("abc", result())
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Bucket, dies_at, _die)
        remote_writer.reopen("abc")

    refresh(remote_writer.paths.root)

    assert read(remote_writer).result == result()
    remote_writer.reopen("abc")
    refresh(remote_writer.paths.root)
    assert read(remote_writer).result is None
    assert remote_writer.paths.trial("abc").was_reopened(1)


def in_copy(writer: SweepWriter) -> set[str]:
    """The records of a sweep that a reader of the working copy meets."""
    found = (path.relative_to(writer.paths.root) for path in writer.paths.root.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if not path.name.startswith(".")}


def _die(*_: object) -> None:
    raise KilledError
