from collections import Counter

import pytest

from tests.support.schedules import run_schedule


def play(seeds: range) -> Counter[str]:
    total = Counter[str]()
    for seed in seeds:
        try:
            played = run_schedule(seed)
        except AssertionError as error:
            raise AssertionError(f"schedule {seed}: {error}") from error
        total.update(trials=played.trials, attempts=played.attempts, restarts=played.restarts)
    return total


def test_through_five_hundred_random_schedules_every_decision_holds() -> None:
    total = play(range(500))

    assert total["attempts"] > total["trials"] > 1000
    assert total["restarts"] > 100


@pytest.mark.slow
def test_through_ten_thousand_random_schedules_every_decision_holds() -> None:
    play(range(500, 10_500))
