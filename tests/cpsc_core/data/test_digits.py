import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from cpsc_core.data import digits as module
from cpsc_core.data.digits import DIGITS
from cpsc_core.data.labelled import SPLITS
from cpsc_core.errors import DataError


def enlarged() -> torch.Tensor:
    images_BCHW = torch.from_numpy(load_digits().images)[:, None] / 16
    return F.interpolate(images_BCHW, scale_factor=2, mode="bilinear", align_corners=False)[:, 0]


def test_images_are_the_collection_enlarged_bilinearly() -> None:
    ink_BHW, labels_B = module._read()

    assert torch.equal(torch.from_numpy(ink_BHW) / 256, enlarged().float())
    assert np.array_equal(labels_B, load_digits().target)


def test_every_image_is_in_one_split() -> None:
    rows = np.concatenate([module._rows(split) for split in SPLITS])

    assert sorted(rows) == list(range(1797))
    assert [len(DIGITS.load(split)) for split in SPLITS] == [1199, 299, 299]


@pytest.mark.parametrize("split", SPLITS)
def test_every_class_has_the_same_share_of_a_split(split: str) -> None:
    _, labels_B = module._read()
    counts_C = torch.bincount(DIGITS.load(split).labels_B)

    torch.testing.assert_close(
        counts_C / counts_C.sum(),
        torch.bincount(torch.from_numpy(labels_B)) / len(labels_B),
        atol=0.003,
        rtol=0,
    )


def test_the_normalisation_is_that_of_the_train_split() -> None:
    pixels_BHW = enlarged()[module._rows("train")]

    assert DIGITS.spec.mean == (round(float(pixels_BHW.mean()), 4),)
    assert DIGITS.spec.std == (round(float(pixels_BHW.std()), 4),)


def test_images_are_normalised_floats_with_labels() -> None:
    val = DIGITS.load("val")
    pixels_BHW = enlarged()[module._rows("val")]

    assert (val.images_BCHW.shape, val.images_BCHW.dtype) == ((299, 1, 16, 16), torch.float32)
    assert val.labels_B.dtype == torch.int64
    torch.testing.assert_close(
        val.images_BCHW[:, 0].double() * DIGITS.spec.std[0] + DIGITS.spec.mean[0],
        pixels_BHW,
        atol=1e-6,
        rtol=0,
    )


def test_content_and_splits_are_those_of_the_first_release() -> None:
    assert DIGITS.fingerprint() == "b22d49cccece46347e245ec648e10d0973150439e7bc58714b7120dfc2ab6655"


@pytest.mark.parametrize("part", ["pixels", "label", "split"])
def test_the_fingerprint_notices_any_change(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = DIGITS.fingerprint()
    ink_BHW, labels_B = (array.copy() for array in module._read())
    rows = {split: module._rows(split) for split in SPLITS}
    if part == "pixels":
        ink_BHW[0, 0, 0] += 1
    elif part == "label":
        labels_B[0] += 1
    else:
        rows |= {"val": rows["test"], "test": rows["val"]}
    monkeypatch.setattr(module, "_read", lambda: (ink_BHW, labels_B))
    monkeypatch.setattr(module, "_rows", rows.__getitem__)

    assert DIGITS.fingerprint() != before


def test_an_unknown_split_is_refused_with_those_there_are() -> None:
    with pytest.raises(DataError, match="no split 'valid'; choose one of train, val, test"):
        DIGITS.load("valid")


def test_a_mirrored_digit_is_not_taken_for_the_same() -> None:
    assert not DIGITS.flips
    assert DIGITS.class_names == tuple("0123456789")
