"""Commands on sweeps that lie in a bucket, each from a cache that has nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.config import parse_experiment
from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket
from orchestrator.store.object_lease import ObjectLease, Rhythm
from orchestrator.store.records import TrialState
from orchestrator.store.working_copy import open_copy
from tests.support.command import EXPERIMENT
from tests.support.folders import MadeSweep


@pytest.fixture
def bucket(remote: BucketAddress, tmp_path: Path) -> Bucket:
    """A bucket with a sweep of a complete and a pruned trial."""
    sweep = MadeSweep(tmp_path)
    sweep.paths.experiment.write_text(parse_experiment(EXPERIMENT).text)
    sweep.trial(0, [0.5])
    pruned = sweep.paths.trial(sweep.trial(1, [0.3], state=TrialState.PRUNED)).attempt(1).checkpoint(1)
    pruned.mkdir(parents=True)
    (pruned / "state.pt").write_bytes(b"x" * 2048)
    (pruned / "manifest.json").write_text("{}")
    bucket = Bucket(remote)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            bucket.upload(path, path.relative_to(tmp_path).as_posix())
    return bucket


def run(bucket: Bucket, *arguments: str) -> Result:
    result = CliRunner().invoke(main, [*arguments, "--storage", str(bucket.address)])
    shutil.rmtree(open_copy(bucket.address).root)
    return result


def test_status_and_best_read_the_bucket_and_name_its_addresses(bucket: Bucket) -> None:
    status, best = run(bucket, "status", "digits", "--json"), run(bucket, "best", "digits", "--json")

    assert (
        json.loads(status.stdout)["counts"] | {"complete": 1, "pruned": 1}
        == json.loads(status.stdout)["counts"]
    )
    assert json.loads(best.stdout)["folder"] == f"{bucket.address}/digits/trials/000000000000"


def test_a_sweep_is_named_by_its_address_too(bucket: Bucket) -> None:
    result = CliRunner().invoke(main, ["status", f"{bucket.address}/digits"])

    assert result.stdout.startswith("digits is complete: 1 complete, 1 pruned")


def test_a_sweep_that_is_not_there_is_told_with_those_that_are(bucket: Bucket) -> None:
    for name in ("nope", "..", "a/b"):
        result = run(bucket, "status", name)

        assert result.exit_code == 2
        assert f"no sweep '{name}' in {bucket.address}: it holds digits" in result.stderr


def test_a_report_lands_in_the_bucket(bucket: Bucket) -> None:
    result = run(bucket, "report", "digits")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"digits is described in {bucket.address}/digits/report.html\n"
    assert b"<!doctype html>" in (bucket.read("digits/report.html") or b"")


def test_gc_says_what_the_bucket_would_free_and_frees_it(bucket: Bucket) -> None:
    told, done = run(bucket, "gc", "digits", "--dry-run"), run(bucket, "gc", "digits", "--json")

    assert "2.0 KiB  1 checkpoints of pruned trials" in told.stdout
    assert json.loads(done.stdout)["bytes"] == 2050
    assert [key for key in bucket.objects() if "checkpoints" in key] == []
    assert "digits holds nothing" in run(bucket, "gc", "digits").stdout


def test_two_sweeps_of_a_bucket_are_compared(bucket: Bucket) -> None:
    for key in list(bucket.objects("digits")):
        bucket.write(key.replace("digits", "twin", 1), bucket.read(key) or b"")

    result = run(bucket, "compare", "digits", "twin", "--json")

    assert [each["sweep"] for each in json.loads(result.stdout)["sweeps"]] == ["digits", "twin"]


def test_stop_leaves_a_request_that_the_machines_of_the_sweep_see(bucket: Bucket) -> None:
    assert run(bucket, "stop", "digits").stdout == "digits is not running\n"
    with ObjectLease.acquire(bucket.address / "digits", rhythm=Rhythm(settle_seconds=0.1)):
        assert "digits will stop" in run(bucket, "stop", "digits").stdout

    assert bucket.has("digits/stop")


def test_gc_of_a_running_sweep_is_refused_with_commands_that_work(bucket: Bucket) -> None:
    with ObjectLease.acquire(bucket.address / "digits", rhythm=Rhythm(beat_seconds=0.2, settle_seconds=0.1)):
        result = run(bucket, "gc", "digits")

    assert result.exit_code == 5
    assert f"stop it with `cpsc-orchestrate stop {bucket.address}/digits`" in result.stderr


def test_doctor_says_whether_a_bucket_keeps_what_is_written_and_leaves_nothing_there(bucket: Bucket) -> None:
    before = bucket.objects().keys()

    result = run(bucket, "doctor", "--json")

    checks = {each["name"]: each for each in json.loads(result.stdout)["checks"]}
    assert checks["storage"] | {"verdict": "ok", "finding": str(bucket.address)} == checks["storage"]
    assert "views of digits" in checks
    assert bucket.objects().keys() == before


def test_doctor_refuses_a_bucket_that_is_not_there(bucket: Bucket) -> None:
    result = CliRunner().invoke(main, ["doctor", "--storage", "s3://no-such-bucket/runs"])

    assert result.exit_code == 3
    assert "there is no bucket no-such-bucket" in result.stderr


def test_a_sweep_in_a_bucket_needs_a_tracking_server_and_one_sentence_says_so(
    bucket: Bucket, tmp_path: Path
) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(
        "name: new\ndata: {name: digits}\nteacher: {arch: resnet8}\nstudent: {arch: resnet8}\n"
        "train: {epochs: 2}\nsearch:\n  loss.ikd: {low: 0.1, high: 1.0}\n"
    )

    result = run(bucket, "sweep", str(file))

    assert result.exit_code == 2
    assert "has no place for MLflow's database: set tracking.uri" in result.stderr
    assert not [key for key in bucket.objects() if key.startswith("new/")]


def test_a_database_of_mlflow_is_not_looked_for_in_a_bucket(bucket: Bucket) -> None:
    result = run(bucket, "ui")

    assert result.exit_code == 2
    assert "the server that tracking.uri names shows the sweeps there" in result.stderr


@pytest.mark.parametrize("storage", ["s3://key:hunter2@runs/a", "s3://runs/a?secret=hunter2", "ftp://runs/a"])
def test_an_address_with_credentials_or_of_another_kind_is_refused(storage: str) -> None:
    result = CliRunner().invoke(main, ["status", "digits", "--storage", storage])

    assert result.exit_code == 2
    assert "hunter2" not in result.stderr
    assert "Invalid value for --storage" in result.stderr
