from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config import Objective
from orchestrator.ranking import front, rank, values_of
from orchestrator.store.folder import TrialFolder
from orchestrator.store.paths import TrialPaths
from orchestrator.store.records import Result, Stage, TrialRecord, TrialState

UP = Objective(metric="val_accuracy")
DOWN = Objective(metric="latency", direction="minimize")
POINTS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from([0.0, 0.0, 0.0, 0.5])), max_size=12
)


def trial(
    number: int, *values: float, excess: float = 0.0, state: TrialState = TrialState.COMPLETE
) -> TrialFolder:
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
        objective=values[0],
        objectives=dict(zip(("val_accuracy", "latency"), values, strict=False)),
        excess={"latency <= 2": excess},
        params={},
        metrics={},
        timing={},
        cause=None,
        detail=None,
        attempt=1,
        generation=1,
    )
    return TrialFolder(TrialPaths(Path()), record, result)


def numbers(trials: Sequence[TrialFolder]) -> list[int | None]:
    return [each.record.number for each in trials]


@given(POINTS)
def test_the_front_is_who_nobody_beats_and_it_comes_first(points: list[tuple[int, int, float]]) -> None:
    trials = [trial(number, *point[:2], excess=point[2]) for number, point in enumerate(points)]
    kept = {number: point for number, point in enumerate(points) if point[2] == 0.0}

    def beats(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        no_worse = one[0] >= other[0] and one[1] <= other[1]
        return no_worse and (one[0] > other[0] or one[1] < other[1])

    unbeaten = {n for n, point in kept.items() if not any(beats(each, point) for each in kept.values())}
    best, ranked = numbers(front(trials, [UP, DOWN])), numbers(rank(trials, [UP, DOWN]))

    assert set(best) == unbeaten
    assert ranked[: len(best)] == best
    assert set(ranked) == set(kept)
    for part in (best, ranked[len(best) :]):
        order = [(-points[n or 0][0], n) for n in part]
        assert order == sorted(order)


@given(POINTS)
def test_with_one_objective_the_front_is_everybody_with_the_best_value(
    points: list[tuple[int, int, float]],
) -> None:
    trials = [trial(number, point[0], excess=point[2]) for number, point in enumerate(points)]
    ranked = rank(trials, [UP])

    best = [each for each in ranked if each.result and ranked[0].result]
    top = [each for each in best if each.result.objective == ranked[0].result.objective]  # type: ignore[union-attr]
    assert numbers(front(trials, [UP])) == numbers(top)


def test_a_trial_that_is_not_complete_or_lacks_a_value_is_in_no_ranking() -> None:
    trials = [trial(0, 0.5), trial(1, 0.9, 1.0, state=TrialState.PRUNED), trial(2, 0.4, 1.0)]

    assert numbers(rank(trials, [UP, DOWN])) == [2]
    assert values_of(trials[0].result, [UP, DOWN]) is None
    assert values_of(None, [UP]) is None
