"""What the mirror's tests stand on: a sweep folder written by hand, and a tracking server in memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image as Picture

from cpsc_core.attempt import append_line, read_lines, write_json
from cpsc_core.settings import DataSettings, TeacherSettings, TrainSettings, TrialSettings, replace_path
from orchestrator.errors import TrackingError, UnreachableError
from orchestrator.mirror.tracker import Attachment, HeldRun, Image, Inputs, Point, RunStatus
from orchestrator.store.paths import StoragePaths, SweepPaths, TrialPaths
from orchestrator.store.records import AttemptEnd, EndClass, Result, Stage, TrialRecord, TrialState

__all__ = [
    "CREATED",
    "MANIFEST",
    "MemoryServer",
    "MemoryTracker",
    "RecordedSweep",
    "assert_same_but_for_the_clock",
    "unreachable",
]

_IDS = itertools.count()

CREATED = 1_700_000_000.25
MANIFEST = {
    "created": CREATED,
    "git": {"commit": "c0ffee", "dirty": True},
    "versions": {"torch": "2.14.1", "mlflow": "3.17.2"},
    "config_sha256": "abc",
    "teacher": {"key": "k", "arch": "resnet20", "sha256": "def", "accuracy": 0.97, "test_accuracy": 0.96},
    "data": {"name": "digits", "fingerprint": "f"},
    "seed": 7,
    "objective": {"metric": "val_accuracy", "direction": "maximize", "of": "last"},
    "finished": None,
}


@dataclass
class RecordedSweep:
    """A sweep's folder, written step by step as a controller and its trials write it."""

    storage: Path
    name: str = "digits"
    manifest: dict[str, Any] = field(default_factory=lambda: dict(MANIFEST))

    def __post_init__(self) -> None:
        self.paths: SweepPaths = StoragePaths(self.storage).sweep(self.name)
        self.paths.trials.mkdir(parents=True)
        write_json(self.paths.manifest, self.manifest)

    def note(self, **entries: Any) -> None:
        """Change entries of the manifest."""
        self.manifest |= entries
        write_json(self.paths.manifest, self.manifest)

    def trial(self, number: int | None, *, ikd: float | None = None, seed: int = 0) -> TrialPaths:
        """Commit a trial that has not started; without a number it confirms the trial of the same `ikd`."""
        params = {"loss.ikd": 1.0 + (number or 0) if ikd is None else ikd}
        train = replace_path(TrainSettings(epochs=4, seed=seed), "loss.ikd", params["loss.ikd"])
        settings = TrialSettings(
            data=DataSettings(name="digits", root="/data"),
            data_fingerprint="f",
            teacher=TeacherSettings(arch="resnet20", weights="/t", sha256="def", accuracy=0.97),
            student_arch="resnet8",
            train=train,
            splits=("val",) if number is not None else ("val", "test"),
        )
        record = TrialRecord(
            name=settings.identity(),
            number=number,
            stage=Stage.SEARCH if number is not None else Stage.CONFIRM,
            params=params,
            distributions={},
            system_attrs={},
            settings=settings.to_dict(),
            created=CREATED + 10.0 * (number if number is not None else 100 + seed),
            generation=1,
        )
        paths = self.paths.trial(record.name)
        paths.attempts.mkdir(parents=True)
        write_json(paths.record, record.to_dict())
        return paths

    def attempt(self, trial: TrialPaths, *, copied: int = 0) -> None:
        """Begin an attempt, which starts with the first `copied` lines of the attempt before it."""
        number = max(trial.attempt_numbers(), default=0) + 1
        new = trial.attempt(number)
        new.samples.mkdir(parents=True)
        for line in read_lines(trial.attempt(number - 1).metrics)[:copied] if copied else ():
            append_line(new.metrics, line)

    def epochs(self, trial: TrialPaths, *epochs: int, pace: float = 1.5, **more: Any) -> None:
        """Finish epochs in the newest attempt, with a grid for every odd one."""
        attempt = trial.attempt(max(trial.attempt_numbers()))
        begun = len(read_lines(attempt.metrics))
        for epoch in epochs:
            line = {
                "epoch": epoch,
                "seconds": pace * (epoch - begun),
                "val_accuracy": 0.1 * epoch + 0.001 * len(trial.root.name),
                "student_loss": 2.0 / epoch,
            }
            append_line(attempt.metrics, line | more)
            if epoch % 2:
                Picture.new("RGB", (6, 4), (10 * epoch, 0, 0)).save(attempt.sample(epoch))

    def end_attempt(self, trial: TrialPaths, ended: EndClass) -> None:
        """Write how the newest attempt ended."""
        attempt = trial.attempt(max(trial.attempt_numbers()))
        write_json(attempt.end, AttemptEnd(ended=ended, cause="words").to_dict())

    def finish(self, trial: TrialPaths, state: TrialState, *, cause: str | None = None) -> None:
        """Commit the trial's result."""
        number = max(trial.attempt_numbers())
        lines = read_lines(trial.attempt(number).metrics)
        last = {key: value for key, value in lines[-1].items() if key != "seconds"} if lines else {}
        summary = {"val_accuracy_best": 0.5, "val_accuracy_mean5": None, "teacher_accuracy": 0.97}
        result = Result(
            state=state,
            objective=last.get("val_accuracy") if state is TrialState.COMPLETE else None,
            params={},
            metrics=last | summary,
            timing={"seconds": 6.0, "ended": CREATED + 5000.0 + number},
            cause=cause,
            detail=None if state is TrialState.COMPLETE else f"{state} in words",
            attempt=number,
            generation=1,
        )
        write_json(trial.result, result.to_dict())

    def reopen(self, trial: TrialPaths) -> None:
        """Make a finished trial unfinished again."""
        trial.result.replace(trial.old_result(max(trial.attempt_numbers())))

    def finished(self, number: int, state: TrialState = TrialState.COMPLETE, epochs: int = 4) -> TrialPaths:
        """A whole trial in one go."""
        trial = self.trial(number)
        self.attempt(trial)
        self.epochs(trial, *range(1, epochs + 1))
        self.end_attempt(trial, EndClass(state.value if state is not TrialState.FAILED else "hang"))
        self.finish(trial, state, cause="hang" if state is TrialState.FAILED else None)
        return trial

    def example(self) -> None:
        """A trial of every kind: complete, pruned, failed, resumed and running, pending, confirming."""
        self.finished(0)
        self.finished(1, TrialState.PRUNED, epochs=2)
        self.finished(2, TrialState.FAILED, epochs=1)
        resumed = self.trial(3)
        self.attempt(resumed)
        self.epochs(resumed, 1, 2, 3)
        self.end_attempt(resumed, EndClass.INFRASTRUCTURE)
        self.attempt(resumed, copied=2)
        self.epochs(resumed, 3, pace=2.5)
        self.trial(4)
        confirming = self.trial(None, ikd=1.0, seed=2)
        self.attempt(confirming)
        self.epochs(confirming, 1)


@dataclass
class _Run:
    held: HeldRun
    name: str
    started: int
    ended: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    images: list[tuple[int, int]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)


@dataclass
class MemoryServer:
    """What a tracking server keeps; it outlives the trackers that are opened on it.

    `before` and `after` are called with the name of every request, before it is carried out and before its
    answer is sent; what they raise is what the client sees.
    """

    before: Callable[[str], None] = lambda _: None
    after: Callable[[str], None] = lambda _: None
    runs: list[_Run] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, _uri: str, _experiment: str, _artifacts: Path | None) -> MemoryTracker:
        """A tracker on this server."""
        return MemoryTracker(self)

    def run(self, run_id: str) -> _Run:
        """One run; the server refuses an id that it does not know."""
        for run in self.runs:
            if run.held.run_id == run_id:
                return run
        raise TrackingError(f"no run {run_id}")

    def shown(self) -> list[dict[str, Any]]:
        """Everything a person sees, run ids left out, in an order that does not depend on them."""
        names = {run.held.run_id: run.name for run in self.runs}
        return sorted(
            (
                {
                    "name": run.name,
                    "status": run.held.status,
                    "started": run.started,
                    "ended": run.ended,
                    "tags": run.held.tags
                    | ({"mlflow.parentRunId": names[parent]} if (parent := _parent(run)) else {}),
                    "params": run.params,
                    "points": sorted((p.key, p.step, p.timestamp, repr(p.value)) for p in run.points),
                    "images": sorted(run.images),
                    "files": {name: Attachment(name, run.files[name]).digest for name in sorted(run.files)},
                    "inputs": sorted(run.inputs),
                }
                for run in self.runs
                if not run.held.deleted
            ),
            key=lambda shown: shown["name"],
        )


def _parent(run: _Run) -> str | None:
    return run.held.tags.get("mlflow.parentRunId")


class MemoryTracker:
    """A `Tracker` on a `MemoryServer`, as idempotent as MLflow is and no more."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def is_alive(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def find(self, tag: str, value: str, since: int) -> list[HeldRun]:
        return self._request("find", lambda: self._find(tag, value, since))

    def create(self, name: str, started: int, tags: Mapping[str, str]) -> HeldRun:
        return self._request("create", lambda: self._create(name, started, tags))

    def restore(self, run_id: str) -> None:
        self._request("restore", lambda: setattr(self._server.run(run_id).held, "deleted", False))

    def send(
        self, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        self._request("params", lambda: self._active(run_id).params.update(params))
        self._request("tags", lambda: self._active(run_id).held.tags.update(tags))
        self._request("points", lambda: self._add(self._active(run_id), points))

    def drop_tag(self, run_id: str, tag: str) -> None:
        self._request("drop_tag", lambda: self._active(run_id).held.tags.pop(tag))

    def set_status(self, run_id: str, status: RunStatus, ended: int | None) -> None:
        run = self._active(run_id)

        def change() -> None:
            run.held.status = status
            run.ended = run.ended if ended is None else ended

        self._request("set_status", change)

    def images(self, run_id: str) -> set[int]:
        return self._request("images", lambda: {step for step, _ in self._active(run_id).images})

    def send_image(self, run_id: str, image: Image) -> None:
        if not image.path.read_bytes().startswith(b"\x89PNG"):
            raise TrackingError(f"{image.path} is not an image")
        run = self._active(run_id)
        self._request("send_image", lambda: run.images.append((image.step, image.timestamp)))

    def attach(self, run_id: str, files: Sequence[Attachment]) -> None:
        run = self._active(run_id)
        self._request("attach", lambda: run.files.update({file.name: file.content for file in files}))

    def note_inputs(self, run_id: str, inputs: Inputs) -> None:
        run = self._active(run_id)
        self._request("note_inputs", lambda: run.inputs.update({inputs.data, inputs.teacher}))

    def _request(self, what: str, carry_out: Callable[[], Any]) -> Any:
        self._server.requests.append(what)
        self._server.before(what)
        answer = carry_out()
        self._server.after(what)
        return answer

    def _active(self, run_id: str) -> _Run:
        run = self._server.run(run_id)
        if run.held.deleted:
            raise TrackingError(f"run {run_id} is in the bin")
        return run

    def _find(self, tag: str, value: str, since: int) -> list[HeldRun]:
        found = (run for run in self._server.runs if run.held.tags.get(tag) == value and run.started >= since)
        return [
            replace(
                run.held,
                tags=dict(run.held.tags),
                params=set(run.params),
                epoch=max([0, *(point.step for point in run.points if point.key == "epoch")]),
                images=None,
            )
            for run in found
        ]

    def _create(self, name: str, started: int, tags: Mapping[str, str]) -> HeldRun:
        run_id = f"run{next(_IDS)}"
        held = HeldRun(
            run_id=run_id,
            status=RunStatus.RUNNING,
            tags=dict(tags) | {"mlflow.runName": name},
            params=set(),
            epoch=0,
            images=set(),
        )
        self._server.runs.append(_Run(held, name, started))
        return replace(held, tags=dict(held.tags), params=set(), images=set())

    def _add(self, run: _Run, points: Sequence[Point]) -> None:
        there = {_identity(point) for point in run.points}
        for point in points:
            if _identity(point) not in there:
                run.points.append(point)
                there.add(_identity(point))


def _identity(point: Point) -> tuple[str, int, int, float | None]:
    return point.key, point.step, point.timestamp, None if math.isnan(point.value) else point.value


def unreachable(_what: str) -> None:
    """A hook that makes every request fail."""
    raise UnreachableError("the server is down")


def assert_same_but_for_the_clock(shown: list[dict[str, Any]], rebuilt: list[dict[str, Any]]) -> None:
    """Compare what is shown with a mirror from nothing, which has not seen the attempts that were cut short.

    An epoch that two attempts finished is shown as the first had it, so its clock may differ, nothing else.
    """
    for run, other in zip(shown, rebuilt, strict=True):
        values = [{(p[0], p[1]): p[3] for p in each["points"] if p[0] != "seconds"} for each in (run, other)]
        assert values[0] == values[1]
        assert len(run["points"]) == len(other["points"])
        assert [step for step, _ in run["images"]] == [step for step, _ in other["images"]]
        for key in run.keys() - {"points", "images"}:
            assert run[key] == other[key]
