import os
import zipfile
from pathlib import Path

import pytest
import torch

from cpsc_core.data.labelled import Images, PlacedData
from cpsc_core.data.tiny_imagenet import TINY_IMAGENET
from cpsc_core.data.tiny_imagenet_classes import NAMES, WORDNET_NUMBERS
from cpsc_core.errors import DataError
from cpsc_core.settings import DataSettings
from tests.support.images import write_tiny_imagenet

REAL = "CPSC_TINY_IMAGENET"
"""Names a folder with the published archive, or with a part of it, where it is at hand."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny-imagenet-200.zip"
    write_tiny_imagenet(path, WORDNET_NUMBERS)
    return path


def placed(root: Path) -> PlacedData:
    return PlacedData.of(DataSettings(name="tiny_imagenet", root=str(root)))


def pixels(images: Images) -> torch.Tensor:
    return images.raw(torch.arange(len(images)))


def test_there_are_200_classes_in_the_order_of_their_numbers() -> None:
    assert len(set(WORDNET_NUMBERS)) == len(set(NAMES)) == TINY_IMAGENET.spec.num_classes == 200
    assert list(WORDNET_NUMBERS) == sorted(WORDNET_NUMBERS)
    assert NAMES[WORDNET_NUMBERS.index("n02124075")] == "Egyptian cat"


def test_the_archive_is_read_as_it_is_downloaded(archive: Path) -> None:
    data = placed(archive.parent)

    train, val, test = (data.load(split) for split in ("train", "val", "test"))

    assert train.labels_B.tolist() == list(range(200))
    assert val.labels_B.bincount().tolist() == test.labels_B.bincount().tolist() == [1] * 200
    brightness_B = pixels(train).double().mean((1, 2, 3))
    for split in (val, test):  # images of a class are as bright as that class
        expected_B = brightness_B[split.labels_B]
        torch.testing.assert_close(pixels(split).double().mean((1, 2, 3)), expected_B, atol=1e-9, rtol=0)
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


def test_the_folder_it_unpacks_to_gives_the_same_images(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path)

    for root in (tmp_path, tmp_path / "tiny-imagenet-200"):
        for split in ("train", "val", "test"):
            folder, packed_images = placed(root).load(split), placed(archive.parent).load(split)
            assert torch.equal(pixels(folder), pixels(packed_images))
            assert torch.equal(folder.labels_B, packed_images.labels_B)


def test_where_it_is_missing_the_command_is_told(tmp_path: Path) -> None:
    complaint = (
        rf"{tmp_path} should have tiny-imagenet-200\.zip as it is downloaded, or the folder .* has neither; "
        rf"download it \(248 MB\) with `cpsc-orchestrate data tiny_imagenet --root {tmp_path}`"
    )
    with pytest.raises(DataError, match=complaint):
        placed(tmp_path).fingerprint()


def changed(archive: Path, target: Path, change: dict[str, bytes | None]) -> Path:
    """A copy of the archive with members replaced or left out."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target / archive.name, "w") as copy:
        for name in source.namelist():
            content = change.get(name, source.read(name))
            if content is not None:
                copy.writestr(name, content)
    return target


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"val/val_annotations.txt": b"val_0.JPEG\tn99999999\t0\n"}, "line 1 of .* is of class 'n99999999'"),
        ({"val/images/val_3.JPEG": None}, r"line 4 of .* names val/images/val_3\.JPEG, which is not there"),
        (
            {"val/images/val_3.JPEG": b"no"},
            r"tiny-imagenet-200\.zip, val/images/val_3\.JPEG, image \d+, is not",
        ),
        ({"val/val_annotations.txt": None}, r"val/val_annotations\.txt in .* cannot be read"),
    ],
)
def test_what_is_wrong_in_the_archive_is_named(
    archive: Path, tmp_path: Path, change: dict[str, bytes | None], complaint: str
) -> None:
    root = changed(archive, tmp_path, {f"tiny-imagenet-200/{name}": each for name, each in change.items()})

    with pytest.raises(DataError, match=complaint):
        for split in ("val", "test"):
            placed(root).load(split)


def test_members_that_lead_elsewhere_are_nothing_to_it(archive: Path, tmp_path: Path) -> None:
    root = changed(archive, tmp_path, {})
    with zipfile.ZipFile(root / archive.name, "a") as packed:
        packed.writestr("../../outside.txt", "x")
        packed.writestr("tiny-imagenet-200/train/../../../outside/images/x.JPEG", "x")

    assert len(placed(root).load("train")) == 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny-imagenet-200.zip"]


def test_a_member_that_would_fill_the_memory_is_refused(archive: Path, tmp_path: Path) -> None:
    root = tmp_path
    with (
        zipfile.ZipFile(archive) as source,
        zipfile.ZipFile(root / archive.name, "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in source.namelist():
            is_it = name.endswith("val_annotations.txt")
            bomb.writestr(name, b"\0" * (65 << 20) if is_it else source.read(name))

    with pytest.raises(DataError, match=r"unpacks to 68,157,440 bytes; it is not Tiny-ImageNet's"):
        placed(root).load("val")


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_a_damaged_archive_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(content)

    with pytest.raises(DataError, match=r"tiny-imagenet-200\.zip is not a zip archive that can be read"):
        placed(tmp_path).load("val")


@pytest.mark.skipif(REAL not in os.environ, reason=f"{REAL} names no folder")
def test_the_real_archive_is_read() -> None:
    data = placed(Path(os.environ[REAL]))

    assert data.load("val").labels_B.bincount().tolist() == [25] * 200
    assert pixels(data.load("test")).shape == (5000, 3, 64, 64)
