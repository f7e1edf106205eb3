import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config import Objective
from orchestrator.config.objectives import bound_of
from orchestrator.outcome import judge, objective_value, summarise

LINES = [
    {"epoch": epoch, "val_accuracy": value, "seconds": 1.0} for epoch, value in enumerate([0.5, 0.9, 0.8], 1)
]

COSTS = {"student_parameters": 7, "latency": 0.25, "peak_memory_gb": 2.0}
LATENCY = Objective(metric="latency", direction="minimize")


@pytest.mark.parametrize(
    ("of", "direction", "value"),
    [
        ("last", "maximize", 0.8),
        ("best", "maximize", 0.9),
        ("best", "minimize", 0.5),
        ("mean5", "maximize", 2.2 / 3),
    ],
)
def test_the_objective_is_the_last_best_or_mean_value(of: str, direction: str, value: float) -> None:
    assert objective_value(LINES, "val_accuracy", direction, of) == pytest.approx(value)  # type: ignore[arg-type]


def test_a_trial_that_ends_in_nan_has_no_objective() -> None:
    lines = [*LINES, {"epoch": 4, "val_accuracy": math.nan}]

    assert [objective_value(lines, "val_accuracy", "maximize", of) for of in ("last", "best", "mean5")] == [
        None
    ] * 3


def test_a_trial_without_lines_has_no_objective() -> None:
    assert objective_value([], "val_accuracy", "maximize", "last") is None
    assert summarise([], {}, [Objective()], 0.99) == {}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_best_is_never_worse_than_last_or_than_the_mean_of_the_last_five(values: list[float]) -> None:
    lines = [{"epoch": epoch, "val_accuracy": value} for epoch, value in enumerate(values, 1)]
    summary = summarise(lines, {}, [Objective()], None)

    assert summary["val_accuracy_best"] >= summary["val_accuracy"]
    assert summary["val_accuracy_best"] >= summary["val_accuracy_mean5"] - 1e-12


def test_a_summary_has_the_last_epoch_without_clocks() -> None:
    lines = [*LINES, {"epoch": 4, "val_accuracy": 0.7, "label_fidelity": 0.2, "seconds": 4.0, "final": True}]

    assert summarise(lines, COSTS, [Objective(metric="label_fidelity"), LATENCY], 0.99) == {
        "epoch": 4,
        "val_accuracy": 0.7,
        "label_fidelity": 0.2,
        "label_fidelity_best": 0.2,
        "label_fidelity_mean5": 0.2,
        "val_accuracy_best": 0.9,
        "val_accuracy_mean5": pytest.approx(0.725),
        "student_parameters": 7,
        "teacher_accuracy": 0.99,
    }


BOUNDS = {text: bound_of(text) for text in ("peak_memory_gb <= 4", "val_accuracy >= 0.4", "latency <= 0")}


def test_a_verdict_has_every_objective_and_how_far_each_constraint_is_broken() -> None:
    verdict = judge(LINES, COSTS, [Objective(of="best"), LATENCY], BOUNDS)

    assert verdict.objectives == {"val_accuracy": 0.9, "latency": 0.25}
    assert verdict.excess == {
        "peak_memory_gb <= 4": pytest.approx(-0.5),
        "val_accuracy >= 0.4": pytest.approx(-1.0),
        "latency <= 0": 0.25,
    }
    assert (verdict.unmeasured, verdict.score) == (None, None)
    assert judge(LINES, COSTS, [Objective(), LATENCY], {}).score == 0.8


@pytest.mark.parametrize(("value", "excess"), [(4.0, 0.0), (4.4, 0.1), (2.0, -0.5)])
def test_a_limit_itself_is_kept(value: float, excess: float) -> None:
    assert bound_of("peak_memory_gb <= 4").excess(value) == pytest.approx(excess)
    assert bound_of("peak_memory_gb >= -4").excess(-value) == pytest.approx(excess)


def test_what_was_not_measured_is_no_objective_and_keeps_no_constraint() -> None:
    lines = [*LINES, {"epoch": 4, "val_accuracy": math.nan}]

    verdict = judge(lines, {}, [LATENCY, Objective()], BOUNDS)

    assert verdict.unmeasured == "latency"
    assert verdict.score is None
    assert set(verdict.excess.values()) == {1.0}
