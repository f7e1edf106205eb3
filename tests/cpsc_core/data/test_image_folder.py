import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cpsc_core.data import file_set as file_set_module
from cpsc_core.data.labelled import PlacedData
from cpsc_core.data.pixels import StoredPixels
from cpsc_core.errors import DataError
from cpsc_core.settings import DataSettings
from tests.support.images import pictures, write_folder

NAMES = ("cat", "dog", "emu")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part, seed in (("train", 0), ("val", 1)):
        write_folder(tmp_path / "d", part, *pictures(12, 8, classes=3, seed=seed), NAMES)
    return tmp_path / "d"


@pytest.fixture
def settings(root: Path) -> DataSettings:
    return DataSettings(
        name="imagefolder", root=str(root), size=8, classes=3, mean=(0.5,) * 3, std=(0.5,) * 3
    )


def test_classes_are_the_folders_in_the_order_of_the_alphabet(settings: DataSettings) -> None:
    data = PlacedData.of(settings)
    pixels_BHWC, labels_B = pictures(12, 8, classes=3)
    order = np.argsort(labels_B, kind="stable")

    images = data.load("train")

    assert images.labels_B.tolist() == labels_B[order].tolist()
    assert np.array_equal(images.raw(torch.arange(12)).numpy(), pixels_BHWC[order].transpose(0, 3, 1, 2))
    assert len(data.load("val")) == len(data.load("test")) == 6


def test_classes_may_be_given_in_another_order(settings: DataSettings) -> None:
    images = PlacedData.of(replace(settings, classes=("emu", "cat", "dog"))).load("train")

    assert images.labels_B.tolist() == [1] * 4 + [2] * 4 + [0] * 4


def test_a_folder_may_have_any_name(root: Path, settings: DataSettings) -> None:
    (root / "train").rename(root / "lessons")

    assert len(PlacedData.of(replace(settings, train="lessons")).load("train")) == 12
    with pytest.raises(DataError, match=r"there is no folder .*/train; correct data\.train"):
        PlacedData.of(replace(settings, train="train")).load("train")


@pytest.mark.parametrize("classes", [4, ("cat", "dog", "fox")])
def test_other_classes_than_said_are_refused(settings: DataSettings, classes: int | tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"has 3 classes \(cat, dog, emu\), not the [34] of data\.classes"):
        PlacedData.of(replace(settings, classes=classes)).load("train")


def test_a_corrupt_image_is_named_by_file_and_index(root: Path, settings: DataSettings) -> None:
    (root / "train/dog/0001.png").write_bytes(b"woof")

    with pytest.raises(DataError, match=r"train/dog/0001\.png, image 4, is not an image"):
        PlacedData.of(settings).load("train")


def test_hidden_folders_and_other_files_are_not_looked_at(root: Path, settings: DataSettings) -> None:
    before = PlacedData.of(settings).fingerprint()
    (root / "train/.thumbnails").mkdir()
    (root / "train/dog/notes.txt").write_text("good")

    assert PlacedData.of(settings).fingerprint() == before
    assert len(PlacedData.of(settings).load("train")) == 12


def test_training_images_that_are_too_many_for_memory_stay_in_their_files(
    settings: DataSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = PlacedData.of(settings).load("train")
    monkeypatch.setattr(file_set_module, "_free_bytes", lambda: 100)

    stored = PlacedData.of(settings).load("train")

    assert isinstance(stored, StoredPixels)
    order = torch.tensor([5, 0, 11])
    assert torch.equal(stored.raw(order), held.raw(order))


def test_a_root_without_parts_is_told(tmp_path: Path, settings: DataSettings) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(
        DataError, match="has no folder train, val or test with one folder of images for each"
    ):
        PlacedData.of(replace(settings, root=str(tmp_path / "empty"))).load("val")


def test_no_folder_is_two_parts(settings: DataSettings) -> None:
    with pytest.raises(DataError, match=r"/val would be in two parts; correct data\.test"):
        PlacedData.of(replace(settings, test="val")).load("val")


def test_a_link_to_another_part_is_no_part_of_its_own(root: Path, settings: DataSettings) -> None:
    (root / "test").symlink_to(root / "val")

    with pytest.raises(DataError, match=r"/test would be in two parts; correct data\.test"):
        PlacedData.of(settings).load("val")


def test_a_name_that_is_no_text_is_a_name(root: Path, settings: DataSettings) -> None:
    image = next((root / "val" / "cat").iterdir())
    image.rename(image.with_name(os.fsdecode(b"Caf\xe9" + image.suffix.encode())))

    placed = PlacedData.of(settings)

    assert len(placed.load("val")) + len(placed.load("test")) == 12
    assert len(placed.fingerprint()) == 64
