import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from cpsc_core import augment as module
from cpsc_core.augment import Batches
from cpsc_core.data.digits import DIGITS
from cpsc_core.data.labelled import LabelledImages
from cpsc_core.data.pixels import HeldPixels, normalise
from cpsc_core.images import ImageSpec
from cpsc_core.settings import TeacherTraining

COLOUR = ImageSpec(num_classes=10, channels=3, size=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


def test_the_learning_rate_falls_from_its_peak_to_zero() -> None:
    images = LabelledImages(torch.zeros(40, 1, 16, 16), torch.zeros(40))
    batches = Batches(images, TeacherTraining(epochs=3, batch_size=8, lr=0.2), DIGITS.spec, False)

    rates = [batches.rate(epoch, step) for epoch in range(3) for step in range(batches.per_epoch)]

    assert rates == sorted(rates, reverse=True)
    assert (rates[0], batches.rate(3, 0)) == (0.2, 0.0)


@given(count=st.integers(1, 40), batch_size=st.integers(2, 50))
def test_an_epoch_shows_no_image_twice(count: int, batch_size: int) -> None:
    images = LabelledImages(torch.zeros(count, 1, 2, 2), torch.arange(count))
    training = TeacherTraining(batch_size=batch_size, augment=False)
    batches = Batches(images, training, DIGITS.spec, False)

    shown = [batch.labels_B.tolist() for batch in batches.of_epoch(0)]

    flat = list(itertools.chain(*shown))
    assert len(flat) == len(set(flat)) > count - batch_size
    assert {len(batch) for batch in shown} == {min(batch_size, count)}
    assert len(shown) == batches.per_epoch


def test_every_epoch_has_an_order_of_its_own() -> None:
    images = LabelledImages(torch.zeros(64, 1, 16, 16), torch.arange(64))
    batches = Batches(images, TeacherTraining(batch_size=64), DIGITS.spec, False)

    first, second, again = (next(batches.of_epoch(epoch)).labels_B.tolist() for epoch in (0, 1, 0))

    assert first == again != second
    assert sorted(first) == sorted(second) == list(range(64))


def test_a_crop_moves_black_in_from_the_border() -> None:
    images_BCHW = torch.rand(25, 2, 5, 4)
    black_C11 = torch.tensor([-1.0, -2.0]).view(2, 1, 1)
    shifts_2B = torch.tensor(list(itertools.product(range(5), range(5)))).T

    cropped_BCHW = module._crop(images_BCHW, shifts_2B, 2, black_C11)

    for image, crop, (down, right) in zip(images_BCHW, cropped_BCHW, shifts_2B.T.tolist(), strict=True):
        padded = torch.stack([F.pad(image[c], (2,) * 4, value=float(black_C11[c])) for c in range(2)])
        torch.testing.assert_close(crop, padded[:, down : down + 5, right : right + 4])


@pytest.mark.parametrize("flips", [True, False])
def test_images_are_mirrored_only_where_they_keep_their_class(flips: bool) -> None:
    size = DIGITS.spec.size
    ramp_BCHW = torch.arange(float(size)).expand(64, 1, size, size)
    images = LabelledImages(ramp_BCHW, torch.zeros(64))
    batches = Batches(images, TeacherTraining(batch_size=64), DIGITS.spec, flips)

    shown_BCHW = next(batches.of_epoch(0)).images_BCHW

    falling = int((shown_BCHW[:, 0, size // 2, 4] > shown_BCHW[:, 0, size // 2, 9]).sum())
    assert (10 < falling < 54) if flips else falling == 0


@pytest.mark.parametrize("augment", [True, False])
def test_bytes_are_augmented_as_floats_are(augment: bool) -> None:
    pixels_BCHW = torch.randint(256, (12, 3, 16, 16), dtype=torch.uint8)
    labels_B = torch.arange(12) % 10
    training = TeacherTraining(batch_size=12, augment=augment)
    in_floats = LabelledImages(normalise(pixels_BCHW, COLOUR), labels_B)

    batch = next(Batches(HeldPixels(pixels_BCHW, labels_B, COLOUR), training, COLOUR, True).of_epoch(3))
    other = next(Batches(in_floats, training, COLOUR, True).of_epoch(3))

    torch.testing.assert_close(batch.images_BCHW, other.images_BCHW, atol=1e-5, rtol=0)
    assert torch.equal(batch.labels_B, other.labels_B)
