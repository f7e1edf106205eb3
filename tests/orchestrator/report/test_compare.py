"""Sweeps side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.report.compare import compare_document, render_comparison
from tests.support.folders import MadeSweep

TEACHER = {"arch": "resnet20", "sha256": "aaaa", "accuracy": 0.97, "test_accuracy": 0.96}


def made(storage: Path, name: str, seeds: int = 2, **manifest: object) -> MadeSweep:
    sweep = MadeSweep(
        storage,
        name=name,
        manifest={"teacher": TEACHER, "epochs": 4, "budget_trials": 2} | manifest,
    )
    sweep.trial(0, [0.8], params={"loss.ikd": 1.0})
    sweep.trial(1, [0.6], params={"loss.ikd": 2.0})
    for seed in range(1, seeds + 1):
        sweep.trial(None, [0.7 + 0.1 * seed], seed=seed, test=0.5 + 0.1 * seed, params={"loss.ikd": 1.0})
    return sweep


def text(*sweeps: MadeSweep) -> str:
    console = Console(width=120, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(render_comparison(compare_document([sweep.folder for sweep in sweeps])))
    return captured.get()


def test_every_sweep_has_a_row_with_what_it_found(tmp_path: Path) -> None:
    first, second = made(tmp_path, "one"), made(tmp_path, "two", seeds=0)

    one, two = compare_document([first.folder, second.folder])["sweeps"]

    assert (one["best"], one["seeds"], one["val_mean"]) == (0.8, 2, pytest.approx(0.85))
    assert one["test_mean"] == pytest.approx(0.65)
    assert one["below_teacher"] == pytest.approx(0.96 - 0.65)
    assert (two["seeds"], two["below_teacher"]) == (None, None)
    assert one["finished"] == 2


def test_equal_terms_are_said_to_be_equal(tmp_path: Path) -> None:
    assert text(made(tmp_path, "one"), made(tmp_path, "two")).rstrip().endswith("on equal terms")


@pytest.mark.parametrize(
    ("difference", "told"),
    [
        ({"teacher": TEACHER | {"sha256": "bbbb"}}, "teacher"),
        ({"data": {"name": "cifar10", "fingerprint": "g"}}, "data"),
        ({"budget_trials": 9}, "number of trials"),
        ({"epochs": 8}, "epochs of a trial"),
        ({"seeds": 3}, "confirm seeds"),
        ({"objective": {"metric": "student_loss", "direction": "minimize", "of": "last"}}, "objective"),
    ],
)
def test_what_makes_a_comparison_unfair_is_named(
    tmp_path: Path, difference: dict[str, object], told: str
) -> None:
    one, two = made(tmp_path, "one"), made(tmp_path, "two", **difference)  # type: ignore[arg-type]

    assert compare_document([one.folder, two.folder])["unequal"] == [told]
    assert f"not on equal terms: {told} differ" in text(one, two)


def test_a_sweep_without_trials_can_be_compared(tmp_path: Path) -> None:
    empty = MadeSweep(tmp_path, name="empty")

    assert "empty" in text(empty, made(tmp_path, "one"))
