import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cpsc_core.data.splits import cut_in_half, rows_digest

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


@given(LABELS)
def test_every_row_is_in_one_half_and_every_class_is_halved(labels_B: np.ndarray) -> None:
    halves = cut_in_half(labels_B)

    assert sorted([*halves["val"], *halves["test"]]) == list(range(len(labels_B)))
    for label in np.unique(labels_B):
        val, test = ((labels_B[halves[split]] == label).sum() for split in ("val", "test"))
        assert test - val in (0, 1)


@given(LABELS)
def test_halves_are_ascending_and_always_the_same(labels_B: np.ndarray) -> None:
    first, again = cut_in_half(labels_B), cut_in_half(labels_B.copy())

    for split in first:
        assert (np.diff(first[split]) > 0).all()
        assert rows_digest(first[split]) == rows_digest(again[split])


def test_halves_are_those_of_the_first_release() -> None:
    assert cut_in_half(np.arange(12) % 2)["val"].tolist() == [0, 2, 3, 6, 7, 11]
