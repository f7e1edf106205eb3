from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest

from cpsc_core.attempt import write_json
from orchestrator.store.folder import SweepFolder
from orchestrator.store.lease import Lease
from orchestrator.store.paths import SweepPaths
from orchestrator.store.records import EndClass
from orchestrator.store.writer import SweepWriter
from orchestrator.study import dashboard
from orchestrator.study.dashboard import copy_search, dashboard_of
from orchestrator.study.view import study_of
from tests.support.simulator import KilledError, Simulator, experiment, run


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/optuna.db"


def swept(root: Path, *overrides: str, **options: Any) -> SweepFolder:
    config = experiment("confirm.top=0", "budget.trials=6", "sampler.name=random", *overrides)
    (root / "toy").mkdir(parents=True, exist_ok=True)
    write_json(root / "toy" / "manifest.json", {"created": 1e9, "objective": config.objective.model_dump()})
    with suppress(KilledError):
        run(config, root / "toy", Simulator(**options))
    return SweepFolder(SweepPaths(root / "toy"))


def shown(url: str) -> list[Any]:
    [name] = optuna.get_all_study_names(url)
    return content(optuna.load_study(study_name=name, storage=url).trials)


def content(trials: list[optuna.trial.FrozenTrial]) -> list[Any]:
    done = [trial for trial in trials if trial.state.is_finished()]
    rows = [(t.user_attrs["trial"], t.state, t.values, t.params, t.intermediate_values) for t in done]
    return sorted(rows, key=lambda row: str(row[0]))


def test_a_copy_shows_every_finished_trial_once_however_often_it_is_made(tmp_path: Path, url: str) -> None:
    folder = swept(tmp_path, kill_after=25)
    first = copy_search(folder, url)
    assert 0 < first < 6
    assert shown(url) == content(study_of(folder).trials)

    folder = swept(tmp_path)

    assert copy_search(folder, url) == 6 - first
    assert copy_search(folder, url) == 0
    assert shown(url) == content(study_of(folder).trials)


def test_a_trial_that_was_tried_again_makes_the_copy_anew(tmp_path: Path, url: str) -> None:
    name = swept(tmp_path / "rehearsal").trials()[0].name
    folder = swept(tmp_path, faults={name: [(1, EndClass.ERROR)]})
    copy_search(folder, url)
    with Lease.acquire(folder.paths.lease) as lease:
        SweepWriter(folder.paths, lease).reopen(name)
    folder = swept(tmp_path)

    assert copy_search(folder, url) == 6
    assert shown(url) == content(study_of(folder).trials)


def test_two_sweeps_of_one_name_do_not_meet_in_one_database(tmp_path: Path, url: str) -> None:
    copy_search(swept(tmp_path / "one"), url)
    other = swept(tmp_path / "other", "sampler.seed=3")
    write_json(other.paths.manifest, {"created": 2e9})

    copy_search(other, url)

    studies = [optuna.load_study(study_name=name, storage=url) for name in _names(url)]
    assert [len(study.trials) for study in studies] == [6, 6]


def _names(url: str) -> list[str]:
    return optuna.get_all_study_names(url)


def test_the_copy_follows_while_the_block_runs_and_once_more_at_its_end(tmp_path: Path, url: str) -> None:
    paths = swept(tmp_path, kill_after=25).paths
    optuna.storages.get_storage(url)  # two who make one database at the same time may disturb each other
    with dashboard_of(url, paths, print, interval_seconds=0.01, grace_seconds=60.0):
        deadline = time.monotonic() + 20
        while not _names(url) and time.monotonic() < deadline:
            time.sleep(0.01)
        folder = swept(tmp_path)

    assert shown(url) == content(study_of(folder).trials)


@pytest.mark.filterwarnings("ignore:Query string argument")
def test_a_database_that_fails_is_told_once_and_holds_up_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    url = f"sqlite:///{tmp_path}/no-such-folder/optuna.db?password=CANARY"
    begun = time.monotonic()
    with dashboard_of(url, swept(tmp_path).paths, said.append, interval_seconds=0.01):
        time.sleep(0.2)

    assert len(said) == 1
    assert said[0].startswith("optuna_storage is behind, and the sweep goes on without it: ")
    assert "CANARY" not in said[0]
    assert time.monotonic() - begun < 20


def test_a_database_that_hangs_is_left_behind(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = threading.Event()
    monkeypatch.setattr(dashboard, "copy_search", lambda folder, url: hanging.wait(30))
    paths = swept(tmp_path).paths
    begun = time.monotonic()
    with dashboard_of(url, paths, print, interval_seconds=0.01, grace_seconds=0.1):
        time.sleep(0.1)
    waited = time.monotonic() - begun
    hanging.set()
    for thread in threading.enumerate():
        if thread.name == "dashboard":  # which would copy in earnest once the test has ended
            thread.join(30)

    assert waited < 10


def test_without_an_address_there_is_no_copy(tmp_path: Path) -> None:
    before = threading.active_count()
    with dashboard_of(None, SweepPaths(tmp_path), print):
        assert threading.active_count() == before


def test_a_space_that_became_wider_makes_the_copy_anew(tmp_path: Path, url: str) -> None:
    def swept_in(choices: str, trials: int) -> SweepFolder:
        space = f"{{generator.steps: {{choices: {choices}}}, loss.ikd: {{low: 0.1, high: 10.0}}}}"
        overrides = ("confirm.top=0", f"budget.trials={trials}", "sampler.name=random")
        run(experiment(*overrides, space=space), tmp_path / "toy", Simulator())
        return SweepFolder(SweepPaths(tmp_path / "toy"))

    copy_search(swept_in("[1, 2]", 4), url)
    folder = swept_in("[1, 2, 3]", 8)

    assert copy_search(folder, url) == 8
    assert copy_search(folder, url) == 0
    assert shown(url) == content(study_of(folder).trials)
