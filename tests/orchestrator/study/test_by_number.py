from __future__ import annotations

import itertools
import math

import pytest

from orchestrator.study.by_number import grid
from orchestrator.study.space import Space
from orchestrator.study.study import Study
from tests.support.searching import Searcher
from tests.support.simulator import experiment


def test_the_grid_visits_every_cell_once_and_then_says_so() -> None:
    config = experiment(
        "sampler.name=grid",
        space="{loss.ikd: {choices: [0.5, 1.0]}, generator.steps: {low: 1, high: 5, step: 2}}",
    )
    searcher = Searcher(config)

    cells = [tuple(sorted(params.items())) for params in searcher.run(range(6))]

    expected = [
        (("generator.steps", steps), ("loss.ikd", weight))
        for weight, steps in itertools.product((0.5, 1.0), (1, 3, 5))
    ]
    assert sorted(cells) == sorted(expected)
    assert searcher.study.suggest(6) is None


def test_a_grid_does_not_turn_a_parameter_that_is_absent() -> None:
    space = (
        "{preset: {choices: [fixed, faithful]}, loss.ikd: {choices: [1, 2, 3], when: {preset: fixed}}, "
        "generator.steps: {choices: [1, 2], when: {loss.ikd: [2, 3]}}}"
    )
    config = experiment("sampler.name=grid", space=space)
    cells = [grid(Space(config), number, 0) for number in range(7)]

    assert sum(cell == {"preset": "faithful"} for cell in cells) == 1
    assert sum(cell == {"preset": "fixed", "loss.ikd": 1.0} for cell in cells if cell) == 1
    assert len({str(cell) for cell in cells if cell}) == 6
    assert cells[6] is None


def test_qmc_covers_the_space_more_evenly_than_chance() -> None:
    """Of 16 Sobol points one lies in each sixteenth of every axis; random points leave some of them empty."""
    config = experiment(
        "sampler.name=qmc",
        space="{loss.ikd: {low: 0.0, high: 16.0}, generator.lr: {low: 0.001, high: 0.161}}",
    )
    study = Study(config)
    points = [study.suggest(number) for number in range(16)]

    assert sorted(math.floor(point.params["loss.ikd"]) for point in points if point) == list(range(16))


@pytest.mark.parametrize("sampler", ["grid", "qmc"])
def test_what_was_enqueued_comes_first_and_the_sequence_begins_after_it(sampler: str) -> None:
    space = "{loss.ikd: {low: 1.0, high: 3.0, step: 1.0}, generator.steps: {low: 1, high: 2}}"
    plain = Searcher(experiment(f"sampler.name={sampler}", space=space)).run(range(4))
    wanted = {"loss.ikd": 2.0, "generator.steps": 2}

    queued = Searcher(
        experiment(f"sampler.name={sampler}", "enqueue=[{loss.ikd: 2, generator.steps: 2}]", space=space)
    ).run(range(5))

    assert queued == [wanted, *plain]
