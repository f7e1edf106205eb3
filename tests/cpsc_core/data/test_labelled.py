from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cpsc_core.data.digits import DIGITS
from cpsc_core.data.labelled import LabelledImages, PlacedData
from cpsc_core.errors import UnknownNameError
from cpsc_core.settings import DataSettings


@given(count=st.integers(1, 20), size=st.integers(1, 25))
def test_batches_are_the_images_in_order(count: int, size: int) -> None:
    images = LabelledImages(torch.randn(count, 1, 2, 2), torch.arange(count))

    batches = list(images.batches(size))

    assert torch.equal(torch.cat([each.images_BCHW for each in batches]), images.images_BCHW)
    assert torch.equal(torch.cat([each.labels_B for each in batches]), images.labels_B)
    assert {len(each) for each in batches[:-1]} <= {size}


def test_a_data_set_is_found_by_name() -> None:
    placed = PlacedData.of(DataSettings(name="digits"))

    assert (placed.spec, placed.fingerprint()) == (DIGITS.spec, DIGITS.fingerprint())
    assert torch.equal(placed.load("val").images_BCHW, DIGITS.load("val").images_BCHW)


def test_the_folder_may_be_below_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert PlacedData.of(DataSettings(name="digits", root="~/data")).root == tmp_path / "data"


def test_an_unknown_data_set_is_refused_with_the_table() -> None:
    with pytest.raises(UnknownNameError, match="digits"):
        PlacedData.of(DataSettings(name="digit"))
