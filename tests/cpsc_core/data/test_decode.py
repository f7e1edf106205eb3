import io

import numpy as np
import pytest
from PIL import Image

from cpsc_core.data import decode as module
from cpsc_core.data.decode import Encoded, Shape, as_pixels, decode, decode_all
from cpsc_core.errors import DataError
from tests.support.images import encoded, pictures


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_come_back_channels_first(channels: int) -> None:
    pixels_BHWC, _ = pictures(1, 8, channels)

    found_CHW = decode(Encoded(encoded(pixels_BHWC[0]), "x"), Shape(channels, 8))

    assert np.array_equal(found_CHW, pixels_BHWC[0].transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_colour_becomes_the_wanted_one(mode: str, channels: int) -> None:
    picture = Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode)

    assert as_pixels(picture, Shape(channels, 8)).tolist() == np.full((channels, 8, 8), 255).tolist()


def test_the_middle_of_an_image_of_another_shape_is_kept() -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200

    assert (as_pixels(Image.fromarray(wide), Shape(3, 8)) == 200).all()
    assert as_pixels(Image.fromarray(wide), Shape(3, 4)).shape == (3, 4, 4)


def test_many_images_are_decoded_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 4)
    pixels_BHWC, _ = pictures(11, 8)
    out_BCHW = np.zeros((11, 3, 8, 8), np.uint8)

    decode_all((Encoded(encoded(each), "x") for each in pixels_BHWC), Shape(3, 8), out_BCHW)

    assert np.array_equal(out_BCHW, pixels_BHWC.transpose(0, 3, 1, 2))


def deep() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no known image format"),
        (b"hello", "no known image format"),
        (encoded(pictures(1, 64)[0][0])[:600], "is not an image that can be decoded"),
        (encoded(pictures(1, 64)[0][0], "JPEG")[:600], "Truncated"),
        (deep(), "more than 8 bits a channel"),
    ],
)
def test_what_cannot_be_decoded_is_named(content: bytes, complaint: str) -> None:
    with pytest.raises(DataError, match=rf"train\.parquet, row 7, .*{complaint}"):
        decode(Encoded(content, "train.parquet, row 7,"), Shape(3, 64))


def test_an_image_that_claims_to_be_huge_is_refused_before_it_is_decoded() -> None:
    buffer = io.BytesIO()
    Image.new("1", (10_000, 6_000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 20_000

    with pytest.raises(
        DataError, match="claims to be 10000 x 6000 pixels, but at most 50,000,000 are decoded"
    ):
        decode(Encoded(buffer.getvalue(), "x"), Shape(3, 32))
