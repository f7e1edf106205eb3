"""What MLflow shows of a sweep, asked with a client of its own, in the words of the server in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from orchestrator.mirror.tracker import Attachment

__all__ = ["shown"]


def shown(uri: str, sweep: str) -> list[dict[str, Any]]:
    """Everything a person sees of a sweep, run ids left out, by name.

    An image is listed only if both of its files are there, and as often as they are.
    """
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(sweep)
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    names = {run.info.run_id: run.info.run_name for run in runs}
    return sorted((_run(client, run, names) for run in runs), key=lambda run: str(run["name"]))


def _run(client: MlflowClient, run: Any, names: dict[str, str]) -> dict[str, Any]:
    tags = dict(run.data.tags)
    if "mlflow.parentRunId" in tags:
        tags["mlflow.parentRunId"] = names[tags["mlflow.parentRunId"]]
    points = [
        (point.key, point.step, point.timestamp, repr(point.value))
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
    ]
    files = [Path(each.path).name.split("+") for each in client.list_artifacts(run.info.run_id, "images")]
    grids = sorted((int(parts[2]), int(parts[4])) for parts in files if parts[-1].endswith(".png"))
    thumbnails = sorted((int(parts[2]), int(parts[4])) for parts in files if parts[-1].endswith(".webp"))
    assert grids == thumbnails
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "started": run.info.start_time,
        "ended": run.info.end_time,
        "tags": tags,
        "params": run.data.params,
        "points": sorted(points),
        "images": grids,
        "files": _files(client, run.info.run_id),
        "inputs": _inputs(client, run.info.run_id),
    }


def _files(client: MlflowClient, run_id: str) -> dict[str, str]:
    """Digests of the files on the top level of a run, by name."""
    names = sorted(each.path for each in client.list_artifacts(run_id) if not each.is_dir)
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(client.download_artifacts(run_id, name, folder)) for name in names}
        return {name: Attachment(name, path.read_bytes()).digest for name, path in files.items()}


def _inputs(client: MlflowClient, run_id: str) -> list[str]:
    """Names of the data sets and teachers that a run was made from."""
    inputs = client.get_run(run_id).inputs
    models = [client.get_logged_model(each.model_id) for each in inputs.model_inputs]
    names = [each.dataset.name for each in inputs.dataset_inputs]
    return sorted(names + [model.tags["cpsc.teacher"] for model in models])
