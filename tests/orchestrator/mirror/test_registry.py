"""The best student in MLflow's model registry."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.errors import UnreachableError
from orchestrator.mirror import registry
from orchestrator.mirror.background import Background
from orchestrator.mirror.sync import Mirror
from orchestrator.mirror.uri import default_uri
from orchestrator.store.folder import SweepFolder
from orchestrator.store.paths import SweepPaths
from tests.support.mirroring import MemoryServer
from tests.support.students import sweep_with_student


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    return sweep_with_student(tmp_path)


@pytest.fixture
def mirror(paths: SweepPaths) -> Mirror:
    mirror = Mirror("http://mlflow.example", paths, connect=MemoryServer().open)
    mirror.sync()
    return mirror


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is asked of the child process, which answers at once."""
    asked: list[dict[str, Any]] = []

    def run(_: list[str], *, input: str, **__: Any) -> subprocess.CompletedProcess[str]:  # noqa: A002
        asked.append(json.loads(input))
        return subprocess.CompletedProcess([], 0, '{"name": "digits", "version": "1"}\n', "")

    monkeypatch.setattr(registry.subprocess, "run", run)
    return asked


def test_the_best_student_is_registered_once(
    mirror: Mirror, paths: SweepPaths, asked: list[dict[str, Any]]
) -> None:
    registered = [mirror.register_best(), mirror.register_best()]

    (trial,) = SweepFolder(paths).trials()
    assert registered == [{"name": "digits", "version": "1"}, None]
    (request,) = asked
    assert request["trial"] == trial.name
    assert request["weights"] == str(trial.paths.attempt(1).student)
    assert request["run_id"] == json.loads(trial.paths.mirror.read_text())["http://mlflow.example"]["run_id"]


def test_another_synchronisation_forgets_nothing_of_it(
    mirror: Mirror, paths: SweepPaths, asked: list[dict[str, Any]]
) -> None:
    mirror.register_best()
    mirror.sync()
    mirror.close()
    mirror.sync()

    assert mirror.register_best() is None
    assert len(asked) == 1


@pytest.mark.parametrize("finished", ["stopped", "interrupted", None])
def test_a_sweep_that_is_not_finished_registers_nothing(
    mirror: Mirror, paths: SweepPaths, asked: list[dict[str, Any]], finished: str | None
) -> None:
    manifest = json.loads(paths.manifest.read_text())
    paths.manifest.write_text(json.dumps(manifest | {"finished": finished}))

    assert mirror.register_best() is None
    assert asked == []


def test_a_registry_that_refuses_is_told_with_the_way_to_try_again(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = subprocess.CompletedProcess([], 1, "", "Traceback\nMlflowException: read only\n")
    monkeypatch.setattr(registry.subprocess, "run", lambda *_, **__: refusal)

    with pytest.raises(UnreachableError, match=r"MlflowException: read only; `sync` tries again"):
        mirror.register_best()


def test_leaving_registers_where_that_is_wanted(mirror: Mirror, asked: list[dict[str, Any]]) -> None:
    with Background(mirror):
        pass
    assert asked == []

    with Background(mirror, registers=True):
        pass
    assert len(asked) == 1


@pytest.mark.slow
def test_the_registered_student_loads_where_unpickling_is_off_and_answers_as_the_student(
    paths: SweepPaths, make_database: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import numpy as np

    from orchestrator.opened import open_sweep

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    uri = make_database(paths.storage.mlflow_database)
    assert uri == default_uri(paths.storage)
    mirror = Mirror(uri, paths)
    mirror.sync()

    registered = mirror.register_best()
    for noted in paths.root.rglob("mirror.json"):
        noted.unlink()
    other = Mirror(uri, paths)
    other.sync()
    again = other.register_best()

    assert registered == again == {"name": "digits", "version": "1"}
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    network = mlflow.pytorch.load_model("models:/digits@best")
    student = open_sweep(paths.root).load_student()
    for count in (1, 5):
        images_BCHW = torch.randn(count, 1, 16, 16)
        with torch.no_grad():
            torch.testing.assert_close(network(images_BCHW), student(images_BCHW).logits_BC)
    loaded = mlflow.pyfunc.load_model("models:/digits/1")
    assert loaded.predict(np.zeros((3, 1, 16, 16), np.float32)).shape == (3, 10)
    assert loaded.metadata.signature.inputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, 1, 16, 16)
    assert loaded.metadata.saved_input_example_info is not None
    client = mlflow.MlflowClient(uri, uri)
    (trial,) = SweepFolder(paths).trials()
    run = client.get_run(json.loads(trial.paths.mirror.read_text())[uri]["run_id"])
    assert run.info.status == "FINISHED"
    assert len(run.outputs.model_outputs) == 1
    assert len(client.search_model_versions("name = 'digits'")) == 1
