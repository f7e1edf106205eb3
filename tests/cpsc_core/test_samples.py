from pathlib import Path

import pytest
import torch
from PIL import Image

from cpsc_core.images import ImageSpec
from cpsc_core.samples import GAP, MAX_COLUMNS, draw_grid, pixels, write_grid

GREY = ImageSpec(num_classes=3, channels=1, size=16, mean=(0.25,), std=(0.5,))
COLOUR = ImageSpec(num_classes=2, channels=3, size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def normalised(pixels_BCHW: torch.Tensor, spec: ImageSpec) -> torch.Tensor:
    mean, std = torch.tensor(spec.mean).view(-1, 1, 1), torch.tensor(spec.std).view(-1, 1, 1)
    return (pixels_BCHW / 255 - mean) / std


@pytest.mark.parametrize("spec", [GREY, COLOUR])
def test_pixels_come_back_from_normalised_space(spec: ImageSpec) -> None:
    original_BCHW = torch.randint(0, 256, (5, spec.channels, 4, 4), dtype=torch.uint8)

    assert torch.equal(pixels(normalised(original_BCHW, spec), spec), original_BCHW)


def test_what_is_darker_than_black_is_black() -> None:
    assert pixels(torch.tensor([-9.0, 9.0]).view(2, 1, 1, 1), GREY).flatten().tolist() == [0, 255]


def test_each_class_has_a_row() -> None:
    labels_B = torch.tensor([2, 0, 2, 0])
    pixels_BCHW = torch.arange(1, 5, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 1, 3, 3)

    grid_HWC = draw_grid(pixels_BCHW, labels_B, num_classes=3)

    step = 3 + GAP
    assert grid_HWC.shape == (3 * step - GAP, 2 * step - GAP, 1)
    assert grid_HWC[::step, ::step, 0].tolist() == [[2, 4], [0, 0], [1, 3]]
    assert (grid_HWC[3:step] == 255).all()


def test_a_row_is_no_longer_than_a_screen() -> None:
    grid_HWC = draw_grid(torch.zeros(90, 1, 1, 1), torch.zeros(90, dtype=torch.int64), num_classes=1)

    assert grid_HWC.shape == (1, MAX_COLUMNS * (1 + GAP) - GAP, 1)


@pytest.mark.parametrize(("spec", "scale", "mode"), [(GREY, 3, "L"), (COLOUR, 1, "RGB")])
def test_the_picture_shows_the_pixels(tmp_path: Path, spec: ImageSpec, scale: int, mode: str) -> None:
    shape = (spec.num_classes, spec.channels, spec.size, spec.size)
    original_BCHW = torch.randint(0, 256, shape, dtype=torch.uint8)
    labels_B = torch.arange(spec.num_classes)

    write_grid(tmp_path / "samples" / "epoch-0001.png", normalised(original_BCHW, spec), labels_B, spec)

    picture = Image.open(tmp_path / "samples" / "epoch-0001.png")
    height = (spec.num_classes * (spec.size + GAP) - GAP) * scale
    assert (picture.mode, picture.size) == (mode, (spec.size * scale, height))
    bottom = (spec.num_classes - 1) * (spec.size + GAP) * scale
    small = picture.crop((0, bottom, spec.size * scale, height)).resize(
        (spec.size, spec.size), Image.Resampling.NEAREST
    )
    found_CHW = (
        torch.tensor(list(small.tobytes()), dtype=torch.uint8).view(spec.size, spec.size, -1).permute(2, 0, 1)
    )
    assert torch.equal(found_CHW, original_BCHW[-1])


def test_a_picture_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "epoch-0001.png"
    write_grid(path, torch.zeros(3, 1, 16, 16), torch.arange(3), GREY)
    before = path.read_bytes()

    def fail(picture: Image.Image, draft: Path, **_: str) -> None:
        draft.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="No space"):
        write_grid(path, torch.ones(3, 1, 16, 16), torch.arange(3), GREY)

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
