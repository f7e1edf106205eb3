from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.report.wording import counted, duration, fixed, setting, share, short_names, size
from orchestrator.store.records import TrialState

PATHS = st.lists(
    st.lists(st.sampled_from(["a", "b", "lr"]), min_size=1, max_size=3).map(".".join), unique=True, max_size=6
)


@given(PATHS)
def test_short_names_are_unique_endings(paths: list[str]) -> None:
    short = short_names(paths)

    assert list(short) == paths
    assert len(set(short.values())) == len(paths)
    assert all(f".{path}".endswith(f".{name}") for path, name in short.items())


def test_a_name_is_only_as_long_as_it_must_be() -> None:
    assert short_names(["loss.ikd", "generator.lr", "student.lr"]) == {
        "loss.ikd": "ikd",
        "generator.lr": "generator.lr",
        "student.lr": "student.lr",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (48 * 3600, "2 d 0 h"),
        (100 * 3600, "4 d 4 h"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 * 1024**3, "3.0 GiB")]
)
def test_a_size_is_told_in_its_largest_unit(num_bytes: int, text: str) -> None:
    assert size(num_bytes) == text


@given(st.floats(min_value=1, max_value=1e15))
def test_a_size_never_has_five_digits_before_the_point(num_bytes: float) -> None:
    assert len(size(num_bytes).split(".")[0].split()[0]) <= 4


def test_what_is_missing_is_a_dash() -> None:
    assert (fixed(None), share(None)) == ("-", "-")
    assert (fixed(0.5), share(0.5)) == ("0.5000", "50.0 %")


@pytest.mark.parametrize(("value", "text"), [(0.123456, "0.1235"), (2.0, "2.0"), (64, "64"), ("mse", "mse")])
def test_a_setting_keeps_its_type_and_four_digits(value: object, text: str) -> None:
    assert setting(value) == text


def test_states_without_trials_are_not_counted() -> None:
    assert (
        counted({TrialState.FAILED: 1, TrialState.RUNNING: 2, TrialState.PRUNED: 0}) == "2 running, 1 failed"
    )
    assert counted({}) == "no trials"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5000"),
        (0.0, "0.0000"),
        (0.00042, "0.00042"),
        (-0.0000123456, "-1.235e-05"),
        (271098.0, "271,098"),
        (1234.5, "1234.5000"),
        (math.nan, "nan"),
        (None, "-"),
    ],
)
def test_a_value_keeps_digits_that_say_something(value: float | None, text: str) -> None:
    assert fixed(value) == text
