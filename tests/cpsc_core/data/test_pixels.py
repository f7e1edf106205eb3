import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from cpsc_core.data.decode import Encoded, Shape
from cpsc_core.data.pixels import HeldPixels, StoredPixels, gathered, normalise
from cpsc_core.data.store import Arrays, Files, Store
from cpsc_core.images import ImageSpec
from tests.support.images import encoded, pictures

SPEC = ImageSpec(num_classes=10, channels=3, size=8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


@pytest.fixture(params=["arrays", "files"])
def store(request: pytest.FixtureRequest) -> Store:
    pixels_BHWC, labels_B = pictures(23, 8)
    if request.param == "arrays":
        return Arrays(labels_B, pixels_BHWC)
    return Files(labels_B, lambda row: Encoded(encoded(pixels_BHWC[row]), str(row)))


def test_normalising_is_what_torchvision_does() -> None:
    pixels_BHWC, _ = pictures(3, 8)
    pixels_BCHW = torch.from_numpy(pixels_BHWC.transpose(0, 3, 1, 2).copy())

    by_torchvision = v2.functional.normalize(
        v2.functional.to_dtype(pixels_BCHW, torch.float32, scale=True), list(SPEC.mean), list(SPEC.std)
    )

    torch.testing.assert_close(normalise(pixels_BCHW, SPEC), by_torchvision, atol=0, rtol=1e-6)


@pytest.mark.parametrize(("budget", "kind"), [(10**6, HeldPixels), (0, StoredPixels)])
def test_images_are_the_same_in_memory_and_in_their_files(store: Store, budget: int, kind: type) -> None:
    rows_B = np.array([2, 3, 5, 7, 11, 13, 17, 19])
    expected_BCHW = torch.from_numpy(pictures(23, 8)[0][rows_B].transpose(0, 3, 1, 2).copy())

    images = gathered(store, rows_B, SPEC, budget_bytes=budget)

    assert isinstance(images, kind)
    assert images.labels_B.tolist() == (rows_B % 10).tolist()
    batches = list(images.to("cpu").batches(3))
    assert [len(batch) for batch in batches] == [3, 3, 2]
    assert torch.equal(torch.cat([batch.images_BCHW for batch in batches]), normalise(expected_BCHW, SPEC))
    assert torch.equal(torch.cat([batch.labels_B for batch in batches]), images.labels_B)
    order = torch.tensor([4, 0, 7])
    assert torch.equal(images.raw(order), expected_BCHW[order])


def test_pixels_that_were_never_encoded_are_brought_to_another_size() -> None:
    pixels_BHWC, labels_B = pictures(2, 8, channels=1)

    read = Arrays(labels_B, pixels_BHWC).read(np.array([1]), Shape(3, 16))

    assert read.shape == (1, 3, 16, 16)
    assert (read[0, 0] == read[0, 1]).all()
