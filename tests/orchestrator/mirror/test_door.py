"""MLflow behind its door: the contract that the server in memory keeps too, and MLflow's own traps."""

from __future__ import annotations

import logging
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from PIL import Image as Picture

from orchestrator.errors import TrackingError, UnreachableError
from orchestrator.mirror.door import MlflowExperiment, open_mlflow
from orchestrator.mirror.reconcile import Synced
from orchestrator.mirror.sync import Mirror
from orchestrator.mirror.tracker import Image, Point, RunStatus, Tracker
from orchestrator.mirror.uri import default_uri
from orchestrator.store.records import EndClass, TrialState
from tests.support import mlflow_view
from tests.support.mirroring import MemoryServer, RecordedSweep, assert_same_but_for_the_clock

STARTED = 1_700_000_000_250


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "epoch-0001.png"
    Picture.new("RGB", (8, 4), (200, 0, 0)).save(path)
    return path


@pytest.fixture
def experiment(tmp_path: Path, make_database: Callable[[Path], str]) -> Iterator[MlflowExperiment]:
    opened = open_mlflow(make_database(tmp_path / "mlflow.db"), "digits", tmp_path / "images")
    yield opened
    opened.close()


@pytest.fixture
def sweep(tmp_path: Path, make_database: Callable[[Path], str]) -> RecordedSweep:
    """A sweep whose storage folder has its database already."""
    sweep = RecordedSweep(tmp_path / "storage")
    make_database(sweep.paths.storage.mlflow_database)
    return sweep


class TrackerContract:
    """What every tracker does."""

    def test_a_run_is_found_by_its_tag(self, tracker: Tracker) -> None:
        tracker.create("trial-000", STARTED, {"cpsc.created": "1.5", "cpsc.trial": "a"})
        tracker.create("other", STARTED, {"cpsc.created": "2.5"})

        (found,) = tracker.find("cpsc.created", "1.5", 0)

        assert found.tags["cpsc.trial"] == "a"
        assert (found.status, found.params, found.epoch) == (RunStatus.RUNNING, set(), 0)
        assert (found.images, found.deleted) == (None, False)

    def test_runs_that_started_earlier_are_left_out(self, tracker: Tracker) -> None:
        tracker.create("early", STARTED, {"cpsc.created": "1"})
        late = tracker.create("late", STARTED + 5, {"cpsc.created": "1"})

        found = tracker.find("cpsc.created", "1", STARTED + 5)

        assert [run.run_id for run in found] == [late.run_id]

    def test_creating_twice_makes_two_runs(self, tracker: Tracker) -> None:
        for _ in range(2):
            tracker.create("trial-000", STARTED, {"cpsc.created": "1"})

        assert len(tracker.find("cpsc.created", "1", 0)) == 2

    def test_what_is_sent_is_held(self, tracker: Tracker) -> None:
        run = tracker.create("trial-000", STARTED, {"cpsc.created": "1"})
        points = [Point("val_accuracy", 0.5, 10, 1), Point("epoch", 1.0, 10, 1), Point("epoch", 2.0, 20, 2)]

        tracker.send(run.run_id, points, {"loss.ikd": "1.0"}, {"cpsc.state": "running"})

        (found,) = tracker.find("cpsc.created", "1", 0)
        assert (found.epoch, found.params, found.tags["cpsc.state"]) == (2, {"loss.ikd"}, "running")

    def test_sending_twice_holds_once(self, tracker: Tracker) -> None:
        run = tracker.create("trial-000", STARTED, {"cpsc.created": "1"})
        for _ in range(2):
            tracker.send(run.run_id, [Point("loss", math.nan, 10, 1)], {"a": "1"}, {"cpsc.state": "x"})

        (found,) = tracker.find("cpsc.created", "1", 0)
        assert found.params == {"a"}

    def test_a_status_can_be_set_and_set_back(self, tracker: Tracker) -> None:
        run = tracker.create("trial-000", STARTED, {"cpsc.created": "1"})
        for status in (RunStatus.KILLED, RunStatus.SCHEDULED, RunStatus.RUNNING, RunStatus.FINISHED):
            tracker.set_status(run.run_id, status, STARTED + 9 if status.is_final else None)

            (found,) = tracker.find("cpsc.created", "1", 0)
            assert found.status is status

    def test_a_tag_can_be_taken_away(self, tracker: Tracker) -> None:
        run = tracker.create("trial-000", STARTED, {"cpsc.created": "1", "cpsc.cause": "hang"})

        tracker.drop_tag(run.run_id, "cpsc.cause")

        (found,) = tracker.find("cpsc.created", "1", 0)
        assert "cpsc.cause" not in found.tags

    def test_images_are_listed_by_epoch(self, tracker: Tracker, picture: Path) -> None:
        run = tracker.create("trial-000", STARTED, {})
        assert tracker.images(run.run_id) == set()

        for step in (1, 10):
            tracker.send_image(run.run_id, Image(picture, STARTED, step))

        assert tracker.images(run.run_id) == {1, 10}

    def test_a_file_that_is_no_image_is_refused(self, tracker: Tracker, tmp_path: Path) -> None:
        run = tracker.create("trial-000", STARTED, {})
        (tmp_path / "torn.png").write_bytes(b"half")

        with pytest.raises(TrackingError, match=r"torn\.png is not an image"):
            tracker.send_image(run.run_id, Image(tmp_path / "torn.png", STARTED, 1))

    def test_a_run_that_does_not_exist_is_refused(self, tracker: Tracker) -> None:
        with pytest.raises(TrackingError, match="f" * 32):
            tracker.send("f" * 32, [Point("epoch", 1.0, 10, 1)], {}, {})


class TestMemoryTracker(TrackerContract):
    @pytest.fixture
    def tracker(self) -> Tracker:
        return MemoryServer().open("", "digits", None)


class TestMlflowExperiment(TrackerContract):
    @pytest.fixture
    def tracker(self, experiment: MlflowExperiment) -> Tracker:
        return experiment

    def test_a_binned_run_is_found_and_restored(self, tmp_path: Path, experiment: MlflowExperiment) -> None:
        run = experiment.create("trial-000", STARTED, {"cpsc.created": "1"})
        MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").delete_run(run.run_id)
        (binned,) = experiment.find("cpsc.created", "1", 0)

        experiment.restore(run.run_id)

        (found,) = experiment.find("cpsc.created", "1", 0)
        assert (binned.deleted, found.deleted) == (True, False)

    def test_more_runs_than_a_page_are_found(
        self, experiment: MlflowExperiment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("orchestrator.mirror.door._PAGE", 2)
        names = {experiment.create(f"trial-{n:03d}", STARTED, {"cpsc.created": "1"}).run_id for n in range(5)}

        assert {run.run_id for run in experiment.find("cpsc.created", "1", 0)} == names

    def test_a_binned_experiment_is_restored(self, tmp_path: Path, experiment: MlflowExperiment) -> None:
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        run = experiment.create("trial-000", STARTED, {"cpsc.created": "1"})
        client = MlflowClient(uri)
        client.delete_experiment(client.get_experiment_by_name("digits").experiment_id)

        again = open_mlflow(uri, "digits", None)

        (found,) = again.find("cpsc.created", "1", 0)
        assert (found.run_id, found.deleted) == (run.run_id, False)

    @pytest.mark.usefixtures("experiment")
    def test_its_page_opens_on_training_runs(self, tmp_path: Path) -> None:
        made = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_experiment_by_name("digits")

        assert made.tags["mlflow.experimentKind"] == "custom_model_development"

    def test_images_are_kept_below_the_sweep(
        self, tmp_path: Path, experiment: MlflowExperiment, picture: Path
    ) -> None:
        run = experiment.create("trial-000", STARTED, {})

        experiment.send_image(run.run_id, Image(picture, STARTED, 1))

        files = [path for path in (tmp_path / "images" / "digits").rglob("*") if path.is_file()]
        assert {path.suffix for path in files} == {".png", ".webp"}

    def test_an_image_that_lost_its_thumbnail_gets_one(
        self, tmp_path: Path, experiment: MlflowExperiment, picture: Path
    ) -> None:
        run = experiment.create("trial-000", STARTED, {})
        experiment.send_image(run.run_id, Image(picture, STARTED, 1))
        (thumbnail,) = (tmp_path / "images").rglob("*.webp")
        before = thumbnail.read_bytes()
        thumbnail.unlink()

        assert experiment.images(run.run_id) == {1}

        assert thumbnail.read_bytes() == before

    def test_a_deleted_database_is_noticed(self, tmp_path: Path, experiment: MlflowExperiment) -> None:
        before = experiment.is_alive()

        (tmp_path / "mlflow.db").unlink()

        assert (before, experiment.is_alive()) == (True, False)


def shown(sweep: RecordedSweep) -> list[dict[str, Any]]:
    """What MLflow shows of a sweep in the default database."""
    return mlflow_view.shown(default_uri(sweep.paths.storage), sweep.name)


def shown_in_memory(sweep: RecordedSweep) -> list[dict[str, Any]]:
    """What a server in memory would show of a sweep."""
    server = MemoryServer()
    Mirror("http://memory", sweep.paths, connect=server.open).sync()
    return server.shown()


def test_mlflow_shows_what_the_folders_hold(sweep: RecordedSweep) -> None:
    sweep.example()
    sweep.note(finished="complete")

    synced = Mirror(default_uri(sweep.paths.storage), sweep.paths).sync()

    assert shown(sweep) == shown_in_memory(sweep)
    assert synced.runs == 7


def test_a_new_process_finds_all_of_it_there(sweep: RecordedSweep) -> None:
    sweep.example()
    sweep.note(finished="complete")
    Mirror(default_uri(sweep.paths.storage), sweep.paths).close(RunStatus.FINISHED)

    assert Mirror(default_uri(sweep.paths.storage), sweep.paths).sync() == Synced()


def test_a_closed_mirror_leaves_one_file_of_the_database(sweep: RecordedSweep) -> None:
    sweep.finished(0)

    Mirror(default_uri(sweep.paths.storage), sweep.paths).close()

    left = {path.name for path in sweep.paths.storage.root.iterdir() if path.name.startswith("mlflow.db")}
    assert left == {"mlflow.db", "mlflow.db.lock"}


def test_a_deleted_database_is_filled_again_with_the_same_runs(sweep: RecordedSweep) -> None:
    sweep.example()
    sweep.note(finished="complete")
    mirror = Mirror(default_uri(sweep.paths.storage), sweep.paths)
    mirror.sync()
    before = shown(sweep)
    sweep.paths.storage.mlflow_database.unlink()
    shutil.rmtree(sweep.paths.storage.mlflow_artifacts)

    synced = mirror.sync()

    assert synced.runs == 7
    assert shown(sweep) == before


def test_infinity_is_shown_as_a_gap_and_not_as_a_huge_number(sweep: RecordedSweep) -> None:
    trial = sweep.trial(0)
    sweep.attempt(trial)
    sweep.epochs(trial, 1, student_loss=math.inf, generator_loss=math.nan)

    Mirror(default_uri(sweep.paths.storage), sweep.paths).sync()

    points = {point[0]: point[3] for point in shown(sweep)[1]["points"]}
    assert (points["student_loss"], points["generator_loss"]) == ("nan", "nan")


def test_a_history_longer_than_a_request_may_be_arrives_whole(sweep: RecordedSweep) -> None:
    trial = sweep.trial(0)
    sweep.attempt(trial)
    sweep.epochs(trial, *range(1, 231), **{f"term_{number}": 0.5 for number in range(5)})

    synced = Mirror(default_uri(sweep.paths.storage), sweep.paths).sync()

    assert synced.points == 230 * 9 > 2000
    assert len(shown(sweep)[1]["points"]) == 230 * 9


def test_a_database_that_is_no_database_is_named(sweep: RecordedSweep) -> None:
    sweep.finished(0)
    sweep.paths.storage.mlflow_database.write_text("not SQLite")

    with pytest.raises(
        UnreachableError, match=r"mlflow\.db could not be opened: .*not a database.*`sync` sends it later"
    ):
        Mirror(default_uri(sweep.paths.storage), sweep.paths).sync()


def test_a_server_that_is_down_is_given_up_on_at_once(sweep: RecordedSweep) -> None:
    sweep.finished(0)

    with pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:9 could not"):
        Mirror("http://127.0.0.1:9", sweep.paths).sync()


class CrashError(BaseException):
    """The process died here."""


class _Dying(MlflowClient):
    """A client whose process dies at one request, before it is carried out or before it is answered."""

    left = math.inf
    answered = False

    def _die(self, request: str, *arguments: Any, **more: Any) -> Any:
        type(self).left -= 1
        if self.left == 0 and not self.answered:
            raise CrashError
        answer = getattr(super(), request)(*arguments, **more)
        if self.left == 0:
            raise CrashError
        return answer


for _request in (
    "create_experiment",
    "create_run",
    "delete_tag",
    "log_artifact",
    "log_batch",
    "set_tag",
    "set_terminated",
    "update_run",
):

    def _dying(self: _Dying, *arguments: Any, request: str = _request, **more: Any) -> Any:
        return self._die(request, *arguments, **more)

    setattr(_Dying, _request, _dying)


def _crash_at(number: int, *, answered: bool, root: Path, make_database: Callable[[Path], str]) -> bool:
    """Let a mirror die at one request, go on with a new one; whether it died."""
    sweep = RecordedSweep(root, name=f"crash-{number}-{answered}")
    make_database(sweep.paths.storage.mlflow_database)

    def connect(uri: str, name: str, artifacts: Path | None) -> Tracker:
        return MlflowExperiment(_Dying(uri), name, artifacts)

    uri, died = default_uri(sweep.paths.storage), False
    _Dying.left, _Dying.answered = number, answered
    trial = sweep.trial(0)
    sweep.attempt(trial)
    sweep.epochs(trial, 1, 2)
    try:
        Mirror(uri, sweep.paths, connect=connect).sync()
    except CrashError:
        died = True
    sweep.end_attempt(trial, EndClass.PREEMPTED)
    sweep.attempt(trial, copied=1)
    sweep.epochs(trial, 2, 3)
    sweep.finish(trial, TrialState.COMPLETE)
    sweep.note(finished="complete")
    try:
        Mirror(uri, sweep.paths, connect=connect).sync()
    except CrashError:
        died = True
    _Dying.left = math.inf
    Mirror(uri, sweep.paths, connect=connect).sync()
    assert_same_but_for_the_clock(shown(sweep), shown_in_memory(sweep))
    return died


@pytest.mark.slow
@pytest.mark.parametrize("answered", [True, False], ids=["answer lost", "request lost"])
def test_a_crash_at_any_request_to_mlflow_doubles_and_loses_nothing(
    tmp_path: Path, make_database: Callable[[Path], str], answered: bool
) -> None:
    number = 1
    while _crash_at(number, answered=answered, root=tmp_path / str(number), make_database=make_database):
        number += 1

    assert number > 12


_MIRROR_ONCE = """
import logging, sys
from pathlib import Path
from orchestrator.mirror import Mirror
from orchestrator.store.paths import SweepPaths
logging.basicConfig(level=logging.INFO, filename=sys.argv[3])
sweep = SweepPaths(Path(sys.argv[1]))
Mirror(sys.argv[2], sweep).sync()
assert not {"torch", "ray"} & sys.modules.keys()
"""


def _use(sweep: RecordedSweep, logs: Path) -> subprocess.Popen[bytes]:
    """A process that mirrors a sweep once, with a log for what it should not say."""
    arguments = [sweep.paths.root, default_uri(sweep.paths.storage), logs / f"{sweep.name}.log"]
    return subprocess.Popen(
        [sys.executable, "-c", _MIRROR_ONCE, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_a_process_that_mirrors_says_nothing_and_needs_no_torch(sweep: RecordedSweep, tmp_path: Path) -> None:
    sweep.finished(0)

    done = _use(sweep, tmp_path).communicate(timeout=120)[0]

    assert done == b""
    assert (tmp_path / "digits.log").read_text() == ""


@pytest.mark.slow
def test_two_first_users_of_a_fresh_database_get_along_and_say_nothing(tmp_path: Path) -> None:
    sweeps = [RecordedSweep(tmp_path / "storage", name) for name in ("one", "two")]
    for sweep in sweeps:
        sweep.finished(0)
    started = [_use(sweep, tmp_path) for sweep in sweeps]
    said = [process.communicate(timeout=120)[0] for process in started]

    assert said == [b"", b""]
    assert [process.returncode for process in started] == [0, 0]
    assert [(tmp_path / f"{sweep.name}.log").read_text() for sweep in sweeps] == ["", ""]
    assert [[run["name"] for run in shown(sweep)] for sweep in sweeps] == [
        ["one", "trial-000"],
        ["trial-000", "two"],
    ]


def test_mlflows_loggers_are_silent(experiment: MlflowExperiment) -> None:
    assert not logging.getLogger("mlflow.store.db.utils").isEnabledFor(logging.CRITICAL)
    assert not logging.getLogger("alembic.runtime.migration").isEnabledFor(logging.CRITICAL)
