"""A cluster whose machines exchange what trials leave through a bucket alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket
from orchestrator.store.folder import find_sweep
from orchestrator.store.records import EndClass
from orchestrator.store.working_copy import fetch
from tests.support.command import EXPERIMENT, start, wait_for
from tests.support.ray_sweep import as_if_undisturbed
from tests.support.two_nodes import two_nodes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_a_trial_on_a_machine_that_dies_goes_on_from_the_bucket_on_another(
    remote: BucketAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, bucket = tmp_path / "tiny.yaml", Bucket(remote)
    file.write_text(
        EXPERIMENT.replace("epochs: 4", "epochs: 20").replace("samples_every: 2", "samples_every: 10")
    )
    fields = ("budget.trials=2", "confirm.top=0", "pruner.name=none", "retry.error=0")
    fields = (*fields, f"tracking.uri=sqlite:///{tmp_path}/mlflow.db")
    overrides = [part for field in fields for part in ("--set", field)]
    with two_nodes(tmp_path / "nodes") as nodes:
        for name, value in nodes.environment.items():
            monkeypatch.setenv(name, value)
        process = start("sweep", file, "--storage", str(remote), "--address", nodes.address, *overrides)
        wait_for(lambda: _trials_that_train(bucket) == 2, 600)
        nodes.kill()
        out, error = process.communicate(timeout=600)

    assert process.returncode == 0, (out, error)
    stayed, moved = sorted(find_sweep("tiny", remote).trials(), key=lambda trial: len(trial.ends))
    assert [end.ended for end in moved.ends.values()] == [EndClass.INFRASTRUCTURE, EndClass.COMPLETE]
    assert moved.attempt_seconds(2) > 0
    for trial in (stayed, moved):
        assert trial.result is not None
        attempt = trial.paths.attempt(trial.result.attempt)
        assert fetch(attempt.student) and fetch(attempt.generator)
        assert as_if_undisturbed(trial, tmp_path / "whole")


def _trials_that_train(bucket: Bucket) -> int:
    keys = [key for key in bucket.objects("tiny") if key.endswith("metrics.jsonl")]
    return sum((bucket.read(key) or b"").count(b"\n") >= 2 for key in keys)
