from __future__ import annotations

import math
import random
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.objective import Objective
from orchestrator.ranking import rank
from orchestrator.report.leaderboard import (
    confirmations,
    leaderboard_document,
    order,
)
from orchestrator.store.folder import TrialFolder
from orchestrator.store.paths import TrialPaths
from orchestrator.store.records import Result, Stage, TrialRecord, TrialState
from tests.support.folders import MadeSweep

A, B, C = {"loss.ikd": 1.0}, {"loss.ikd": 2.0}, {"loss.ikd": 3.0}


def in_memory(number: int, state: TrialState, objective: float | None) -> TrialFolder:
    record = TrialRecord(
        name=f"t{number}",
        number=number,
        stage=Stage.SEARCH,
        params={},
        distributions={},
        system_attrs={},
        settings={},
        created=0.0,
        generation=1,
    )
    result = Result(
        state=state,
        objective=objective,
        params={},
        metrics={},
        timing={},
        cause=None,
        detail=None,
        attempt=1,
        generation=1,
    )
    return TrialFolder(TrialPaths(Path()), record, result)


OBJECTIVES = st.lists(
    st.tuples(
        st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED]),
        st.sampled_from([0.1, 0.2, 0.3, math.nan, None]),
    ),
    max_size=12,
)


@given(OBJECTIVES, st.sampled_from(["maximize", "minimize"]), st.randoms(use_true_random=False))
def test_the_ranking_is_the_same_however_the_folders_are_listed(
    outcomes: list[tuple[TrialState, float | None]], direction: str, chance: random.Random
) -> None:
    trials = [in_memory(number, *outcome) for number, outcome in enumerate(outcomes)]
    shuffled = trials[:]
    chance.shuffle(shuffled)

    ranked = [trial.record.number for trial in rank(shuffled, [Objective(direction=direction)])]

    able = {
        number: value
        for number, (state, value) in enumerate(outcomes)
        if state is TrialState.COMPLETE and value is not None and not math.isnan(value)
    }
    sign = -1 if direction == "maximize" else 1
    assert ranked == sorted(able, key=lambda number: (sign * able[number], number))


def test_fresh_seeds_decide_once_every_confirm_trial_has_ended(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.90], params=A)
    sweep.trial(1, [0.80], params=B)
    sweep.trial(2, [0.95], params=C)
    for seed, (a, b) in enumerate([(0.70, 0.85), (0.72, 0.86)], start=100):
        sweep.trial(None, [a], params=A, seed=seed, test=a - 0.01)
        sweep.trial(None, [b], params=B, seed=seed, test=b - 0.01)

    trials = sweep.folder.trials()

    assert [trial.record.number for trial in order(trials, [Objective()])] == [1, 0, 2]
    assert [trial.record.number for trial in rank(trials, [Objective()])] == [2, 0, 1]


def test_the_search_decides_while_a_confirm_trial_is_under_way(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.90], params=A)
    sweep.trial(1, [0.80], params=B)
    sweep.trial(None, [0.99], params=B, seed=100)
    sweep.trial(None, [], params=A, seed=100, state=None)

    assert [trial.record.number for trial in order(sweep.folder.trials(), [Objective()])] == [0, 1]


def test_a_configuration_that_lost_a_seed_does_not_win_by_it(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.90], params=A)
    sweep.trial(1, [0.80], params=B)
    for seed in (100, 101):
        sweep.trial(None, [0.75], params=A, seed=seed)
    sweep.trial(None, [0.99], params=B, seed=100)
    sweep.trial(None, [], params=B, seed=101, state=TrialState.FAILED, cause="diverged")

    assert [trial.record.number for trial in order(sweep.folder.trials(), [Objective()])] == [0, 1]


def test_confirm_trials_are_grouped_by_all_settings_but_the_seed(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    first = sweep.trial(0, [0.9], params=A)
    second = sweep.trial(1, [0.8], params=B)
    values = [0.70, 0.74, 0.81]
    for seed, value in enumerate(values, start=100):
        sweep.trial(None, [0.1, value], params=A, seed=seed, test=value / 2)

    found = confirmations(sweep.folder.trials())

    assert set(found) == {first}
    assert second not in found
    assert found[first].seeds == 3
    assert found[first].val_mean == pytest.approx(sum(values) / 3)
    assert found[first].val_std == pytest.approx(statistics.stdev(values))
    assert found[first].test_mean == pytest.approx(sum(values) / 6)


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    name = sweep.trial(0, [0.9], params=A)
    sweep.trial(None, [0.7], params=A, seed=100)

    found = confirmations(sweep.folder.trials())[name]

    assert (found.val_std, found.test_mean, found.test_std) == (None, None, None)


def test_a_row_shows_last_best_and_the_mean_of_the_last_five(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6], objective=0.9)

    (row,) = leaderboard_document(sweep.folder)["rows"]

    assert (row["rank"], row["objective"], row["last"], row["best"]) == (1, 0.9, 0.6, 0.9)
    assert row["mean5"] == pytest.approx(0.4)
    assert row["label_fidelity"] == 0.5


def test_the_least_is_best_when_the_objective_is_minimised(tmp_path: Path) -> None:
    objective = {"metric": "val_accuracy", "direction": "minimize", "of": "best"}
    sweep = MadeSweep(tmp_path, manifest={"objective": objective})
    sweep.trial(0, [0.5, 0.7])
    sweep.trial(1, [0.4, 0.6])

    rows = leaderboard_document(sweep.folder)["rows"]

    assert [row["number"] for row in rows] == [1, 0]
    assert [row["best"] for row in rows] == [0.4, 0.5]


def test_of_a_long_leaderboard_only_the_rows_that_are_wanted_are_made(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    for number in range(4):
        sweep.trial(number, [0.1 * number])

    whole, short = leaderboard_document(sweep.folder), leaderboard_document(sweep.folder, limit=2)

    assert short == whole | {"rows": whole["rows"][:2]}
