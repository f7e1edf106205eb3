import pytest

from cpsc_core.distill.schedule import SCHEDULES, cosine, released
from cpsc_core.settings import StudentSettings, TrainSettings


def settings(epochs: int, *, iterations: int = 5, warmup: int = 10) -> TrainSettings:
    student = StudentSettings(lr=0.1, warmup_epochs=warmup)
    return TrainSettings(epochs=epochs, iterations_per_epoch=iterations, student=student)


@pytest.mark.parametrize(
    ("epochs", "number", "rate"),
    [
        (600, 1, 0.01),
        (600, 10, 0.1),
        (600, 11, 0.09997),
        (100, 11, 0.09896),
        (600, 600, 6.9e-5),
        (100, 100, 2.4e-3),
    ],
)
def test_the_released_schedule_has_the_measured_rates(epochs: int, number: int, rate: float) -> None:
    assert released(settings(epochs), number - 1, 0) == pytest.approx(rate, rel=2e-2 if rate < 0.01 else 5e-5)


def test_the_released_schedule_is_constant_within_an_epoch() -> None:
    assert len({released(settings(100), 30, iteration) for iteration in range(5)}) == 1


@pytest.mark.parametrize("epochs", [1, 2, 3, 9])
@pytest.mark.parametrize("name", SCHEDULES)
def test_short_runs_have_no_warm_up_and_never_stand_still(name: str, epochs: int) -> None:
    rates = [SCHEDULES[name](settings(epochs), epoch, 0) for epoch in range(epochs)]

    assert rates[0] == 0.1
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


def test_the_cosine_rises_in_a_line_to_the_peak_and_falls_to_zero() -> None:
    run = settings(100, warmup=10)
    rates = [cosine(run, epoch, iteration) for epoch in range(100) for iteration in range(5)]

    rise = [rates[i + 1] - rates[i] for i in range(48)]
    assert rise == pytest.approx([0.1 / 50] * 48)
    assert max(rates) == rates[50] == 0.1
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[50 + 225] == pytest.approx(0.05)
    assert 0 < rates[-1] < 1e-5


def test_warm_up_takes_a_tenth_of_the_epochs_at_most() -> None:
    assert cosine(settings(20, warmup=10), 2, 0) == 0.1
    assert released(settings(20, warmup=10), 1, 0) == 0.1
