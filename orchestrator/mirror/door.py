"""The only door to MLflow."""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.credentials import find_exposure
from orchestrator.errors import ConfigError, TrackingError, UnreachableError
from orchestrator.mirror.database import prepare_database
from orchestrator.mirror.history import can_write, write_history
from orchestrator.mirror.tracker import Attachment, HeldRun, Image, Inputs, Point, RunStatus
from orchestrator.mirror.uri import database_path, public_uri

__all__ = ["MlflowExperiment", "open_client", "open_mlflow"]

_ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Sent again by us, after a look at what arrived: MLflow would begin a second run if an answer got lost.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# Closing a file that was opened otherwise would take SQLite's locks on it away.
_NEITHER_READ_NOR_WRITE = getattr(os, "O_PATH", os.O_RDONLY)
_SILENT = logging.CRITICAL + 1
_PAGE = 1000
_IMAGE_KEY = "samples"
_IMAGE_FILE = re.compile(
    rf"(.*/{_IMAGE_KEY}\+step\+(\d+)\+timestamp\+\d+\+[0-9a-f-]+)(\.png|\+compressed\.webp)"
)
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Opens the experiment on its runs; without it MLflow's page starts with traces of language models."""
_CHARACTERS_OF_A_DIGEST = 36
_TEACHER_TAG = "cpsc.teacher_sha256"
_UNAVAILABLE = frozenset({401, 403, 408, 429})


def open_mlflow(uri: str, experiment: str, artifacts: Path | None) -> MlflowExperiment:
    """The experiment of a name, which is made, or taken out of the bin, if need be.

    A database that does not exist yet is made first; of two processes that want to, one waits. Raises what
    the methods of `Tracker` raise, and ConfigError if credentials would be sent for everybody to read.
    """
    _refuse_exposure(uri)
    _hush()
    database = database_path(uri)
    with _asking(uri, "be opened"):
        engine = None if database is None else prepare_database(uri, database, artifacts)
        # A client opens the database, so it comes after that was made.
        return MlflowExperiment(open_client(uri), experiment, artifacts, engine)


def open_client(uri: str) -> Any:
    """MLflow's own client, which says nothing, reports to nobody and leaves repetitions to its user.

    Raises ConfigError if it would send credentials for everybody to read.
    """
    _refuse_exposure(uri)
    _hush()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _refuse_exposure(uri: str) -> None:
    if exposure := find_exposure(uri, os.environ):
        raise ConfigError(f"{public_uri(uri)} {exposure}")


def _hush() -> None:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401 - which sets its loggers' levels as it likes

    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(_SILENT)


class MlflowExperiment:
    """One experiment (see `Tracker`)."""

    def __init__(self, client: Any, name: str, artifacts: Path | None, engine: Any = None) -> None:
        self._client = client
        self._engine = engine
        self._uri = client.tracking_uri
        self._database = database_path(self._uri)
        self._experiment = self._find_or_create(name, artifacts)
        # An inode that is open is not given to another file.
        self._inode = None if self._database is None else os.open(self._database, _NEITHER_READ_NOR_WRITE)

    def is_alive(self) -> bool:
        """False once the database file was deleted or replaced."""
        if self._database is None or self._inode is None:
            return True
        try:
            return os.path.samestat(os.fstat(self._inode), self._database.stat())
        except FileNotFoundError:
            return False

    def find(self, tag: str, value: str, since: int) -> list[HeldRun]:
        """Runs with one tag that started at `since` (Unix milliseconds) or later, binned ones too."""
        from mlflow.entities import ViewType

        wanted = f"tags.`{tag}` = '{value}' and attributes.start_time >= {since}"
        found: list[HeldRun] = []
        page: str | None = None
        with self._asking("list its runs"):
            while True:
                runs = self._client.search_runs(
                    [self._experiment], wanted, ViewType.ALL, max_results=_PAGE, page_token=page
                )
                found.extend(_held(run) for run in runs)
                if not (page := runs.token):
                    return found

    def create(self, name: str, started: int, tags: Mapping[str, str]) -> HeldRun:
        """Begin a run, shown as running."""
        with self._asking(f"begin run {name}"):
            return _held(self._client.create_run(self._experiment, started, dict(tags), name), images=set())

    def restore(self, run_id: str) -> None:
        """Take a run out of the bin."""
        with self._asking(f"restore run {run_id}"):
            self._client.restore_run(run_id)

    def send(
        self, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Add points, all of them or none, and parameters and tags."""
        from mlflow.entities import Metric, Param, RunTag

        swiftly = points if self._engine is not None and can_write() else ()
        slowly = () if swiftly else points
        with self._asking(f"take the metrics of run {run_id}"):
            self._client.log_batch(
                run_id,
                metrics=[Metric(point.key, point.value, point.timestamp, point.step) for point in slowly],
                params=[Param(path, value) for path, value in params.items()],
                tags=[RunTag(tag, value) for tag, value in tags.items()],
                synchronous=True,
            )
            if swiftly:
                write_history(self._engine, run_id, swiftly)

    def drop_tag(self, run_id: str, tag: str) -> None:
        """Take a tag away."""
        with self._asking(f"take tag {tag} from run {run_id}"):
            self._client.delete_tag(run_id, tag)

    def set_status(self, run_id: str, status: RunStatus, ended: int | None) -> None:
        """Show the run with another status."""
        with self._asking(f"show run {run_id} as {status}"):
            if status.is_final:
                self._client.set_terminated(run_id, status.value, ended)
            else:
                self._client.update_run(run_id, status.value)

    def images(self, run_id: str) -> set[int]:
        """Epochs whose grid is there. One whose thumbnail was lost on the way gets it now."""
        with self._asking(f"list the images of run {run_id}"):
            paths = [each.path for each in self._client.list_artifacts(run_id, "images")]
            files = [match for path in paths if (match := _IMAGE_FILE.fullmatch(path))]
            complete = {match[1] for match in files if match[3] != ".png"}
            for match in files:
                if match[1] not in complete:
                    self._send_thumbnail(run_id, match[1])
        return {int(match[2]) for match in files}

    def send_image(self, run_id: str, image: Image) -> None:
        """Add a grid."""
        from PIL import Image as Picture

        try:
            grid = Picture.open(image.path)
            grid.load()
        except (OSError, SyntaxError) as error:
            raise TrackingError(
                f"{image.path} is not an image that can be sent to MLflow: {error}"
            ) from error
        with self._asking(f"take the image of epoch {image.step} of run {run_id}"):
            self._client.log_image(
                run_id, grid, key=_IMAGE_KEY, step=image.step, timestamp=image.timestamp, synchronous=True
            )

    def attach(self, run_id: str, files: Sequence[Attachment]) -> None:
        """Add files, or replace those of the same name."""
        with self._asking(f"take the files of run {run_id}"), tempfile.TemporaryDirectory() as folder:
            for file in files:
                Path(folder, file.name).write_bytes(file.content)
            self._client.log_artifacts(run_id, folder)

    def note_inputs(self, run_id: str, inputs: Inputs) -> None:
        """Show what a run was made from: the data set, and the teacher as a model."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput

        with self._asking(f"note what run {run_id} was made from"):
            data = Dataset(
                name=inputs.data,
                digest=inputs.data_digest[:_CHARACTERS_OF_A_DIGEST],
                source_type="local",
                source=json.dumps({"uri": inputs.data_source}),
            )
            held_out = DatasetInput(data, tags=[InputTag("mlflow.data.context", "held out")])
            teacher = LoggedModelInput(self._teacher(inputs))
            self._client.log_inputs(run_id, datasets=[held_out], models=[teacher])

    def _teacher(self, inputs: Inputs) -> str:
        """The id of the teacher among the experiment's models; it is made if need be."""
        wanted = f"tags.`{_TEACHER_TAG}` = '{inputs.teacher_digest}'"
        for model in self._client.search_logged_models([self._experiment], wanted, max_results=1):
            return str(model.model_id)
        made = self._client.create_logged_model(
            self._experiment,
            name=f"teacher-{re.sub(r'[^A-Za-z0-9_-]', '-', inputs.teacher)}",
            tags={"cpsc.teacher": inputs.teacher, _TEACHER_TAG: inputs.teacher_digest},
            params=dict(inputs.teacher_facts),
            model_type="teacher",
        )
        return str(self._client.finalize_logged_model(made.model_id, "READY").model_id)

    def close(self) -> None:
        """Let go of the database file, if there is one."""
        if self._engine is not None:
            self._engine.dispose()
        if self._inode is not None:
            os.close(self._inode)
            self._inode = None

    def _find_or_create(self, name: str, artifacts: Path | None) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            place = None if artifacts is None else (artifacts / name).absolute().as_uri()
            return str(self._client.create_experiment(name, artifact_location=place, tags=_KIND))
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _send_thumbnail(self, run_id: str, stem: str) -> None:
        from mlflow.tracking.multimedia import compress_image_size
        from PIL import Image as Picture

        with tempfile.TemporaryDirectory() as folder:
            grid = self._client.download_artifacts(run_id, f"{stem}.png", folder)
            thumbnail = Path(folder) / f"{Path(stem).name}+compressed.webp"
            with Picture.open(grid) as picture:
                compress_image_size(picture).save(thumbnail)
            self._client.log_artifact(run_id, str(thumbnail), "images")

    def _asking(self, what: str) -> Any:
        return _asking(self._uri, what)


def _held(run: Any, images: set[int] | None = None) -> HeldRun:
    return HeldRun(
        run_id=run.info.run_id,
        status=RunStatus(run.info.status),
        tags=dict(run.data.tags),
        params=set(run.data.params),
        epoch=int(run.data.metrics.get("epoch", 0)),
        images=images,
        deleted=run.info.lifecycle_stage == "deleted",
    )


@contextmanager
def _asking(uri: str, what: str) -> Iterator[None]:
    """Say in one sentence what MLflow would not do, and whether that is its word or its silence."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
        refused = 400 <= status < 500 and status not in _UNAVAILABLE
        raise (TrackingError if refused else UnreachableError)(_sentence(uri, what, error)) from error
    except Exception as error:
        raise UnreachableError(_sentence(uri, what, error)) from error


def _sentence(uri: str, what: str, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, ModuleNotFoundError) and uri.startswith("postgresql"):
        reason += ' (`pip install "cpsc-orchestrate[postgresql]"` has it)'
    return (
        f"MLflow at {public_uri(uri)} could not {what}: {reason}; "
        "the trial folders keep it all, and `sync` sends it later"
    )
