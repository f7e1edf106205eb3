"""The best student into MLflow's model registry: `python -m orchestrator.mirror.register < request.json`.

It is a process of its own, since MLflow needs torch to write a model and the controller has none. A request
is a Registration as JSON; the answer is the name and version. The model is written as MLflow's pt2 form: an
exported graph and plain tensors, which load where unpickling is switched off.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Registration", "register"]

_TRIAL, _DIGEST = "cpsc.trial", "cpsc.student_sha256"
_ALIAS = "best"
_EXAMPLES = 2
_PACKAGES = ("torch", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """Which student goes where."""

    uri: str
    """MLflow tracking URI."""
    experiment: str
    """Name of the experiment, which the model in the registry is called by too."""
    run_id: str
    """The trial's run."""
    trial: str
    """The trial's hash."""
    settings: dict[str, Any]
    """The trial's settings."""
    weights: str
    """The student's weights."""
    digest: str
    """Digest of the weights: the same student is registered once."""


def register(wanted: Registration) -> dict[str, str]:
    """Name and version of the student in the registry, where it is put unless it is there; alias `best`.

    Asked again after an answer was lost, it goes on where it stands.
    """
    import mlflow

    from orchestrator.mirror.door import open_client

    client = open_client(wanted.uri)
    # The registry looks a model up where the process tracks, whatever its client was given.
    mlflow.set_tracking_uri(wanted.uri)
    version = _version(client, wanted) or _make_version(client, wanted)
    client.set_registered_model_alias(wanted.experiment, _ALIAS, version)
    return {"name": wanted.experiment, "version": version}


def _version(client: Any, wanted: Registration) -> str | None:
    """The version that the registry has of this student."""
    for found in client.search_model_versions(f"name = '{wanted.experiment}'"):
        if found.tags.get(_DIGEST) == wanted.digest and found.tags.get(_TRIAL) == wanted.trial:
            return str(found.version)
    return None


def _make_version(client: Any, wanted: Registration) -> str:
    from mlflow.exceptions import MlflowException

    model = _model(client, wanted)
    try:
        client.create_registered_model(wanted.experiment)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        wanted.experiment,
        source=f"models:/{model.model_id}",
        run_id=wanted.run_id,
        tags={_TRIAL: wanted.trial, _DIGEST: wanted.digest},
        model_id=model.model_id,
    )
    return str(made.version)


def _model(client: Any, wanted: Registration) -> Any:
    """The student among the experiment's models, complete; one that was begun and not finished is left."""
    from mlflow.entities import LoggedModelOutput

    experiment = client.get_experiment_by_name(wanted.experiment).experiment_id
    tags = f"tags.`{_DIGEST}` = '{wanted.digest}' and tags.`{_TRIAL}` = '{wanted.trial}'"
    for found in client.search_logged_models([experiment], tags):
        if found.status == "READY":
            return found
    model = client.create_logged_model(
        experiment,
        name=f"student-{wanted.trial}",
        source_run_id=wanted.run_id,
        tags={_TRIAL: wanted.trial, _DIGEST: wanted.digest},
        model_type="student",
    )
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder) / "model", wanted, model.model_id)
        client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    client.log_outputs(wanted.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return client.finalize_logged_model(model.model_id, "READY")


def _write(folder: Path, wanted: Registration, model_id: str) -> None:
    """The student with its signature and an input example, as pt2."""
    import mlflow.pytorch
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    from cpsc_core.data.labelled import PlacedData
    from cpsc_core.settings import TrialSettings
    from cpsc_core.student import LogitsOnly, load_student

    spec = PlacedData.of(TrialSettings.from_dict(wanted.settings).data).spec
    image = (spec.channels, spec.size, spec.size)
    kind = np.dtype(np.float32)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(kind, (-1, *image))]),
        outputs=Schema([TensorSpec(kind, (-1, spec.num_classes))]),
    )
    mlflow.pytorch.save_model(
        LogitsOnly(load_student(wanted.settings, Path(wanted.weights))).eval(),
        folder,
        mlflow_model=Model(run_id=wanted.run_id, model_id=model_id),
        signature=signature,
        input_example=np.zeros((_EXAMPLES, *image), np.float32),
        pip_requirements=list(_PACKAGES),
        serialization_format="pt2",
    )


def main(request: Mapping[str, Any]) -> dict[str, str]:
    """What a request asks for; what libraries say meanwhile goes to the error stream."""
    answer, sys.stdout = sys.stdout, sys.stderr
    logging.disable(logging.WARNING)
    try:
        return register(Registration(**request))
    finally:
        sys.stdout = answer


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.load(sys.stdin))) + "\n")
