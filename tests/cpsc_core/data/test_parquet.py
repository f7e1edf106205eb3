from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cpsc_core.data import file_set as file_set_module
from cpsc_core.data.labelled import PlacedData
from cpsc_core.data.normalization import NORMALIZATIONS
from cpsc_core.data.pixels import StoredPixels
from cpsc_core.errors import DataError
from cpsc_core.settings import DataSettings
from tests.support.images import encoded, pictures, write_parquet

IMAGENET = NORMALIZATIONS["imagenet"]
NAMES = tuple("abcdefghij")


@pytest.fixture
def settings(tmp_path: Path) -> DataSettings:
    return DataSettings(
        name="parquet", root=str(tmp_path / "d"), size=8, classes=10, mean=IMAGENET.mean, std=IMAGENET.std
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "d"


def placed(settings: DataSettings, **changes: Any) -> PlacedData:
    return PlacedData.of(replace(settings, **changes))


def pixels_of(data: PlacedData, split: str) -> Any:
    images = data.load(split)
    return images.raw(torch.arange(len(images))).numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_and_labels_come_back(root: Path, settings: DataSettings, nested: bool, channels: int) -> None:
    pixels_BHWC, labels_B = pictures(40, 8, channels)
    write_parquet(root / "train-00000.parquet", pixels_BHWC, labels_B, nested=nested)
    write_parquet(root / "test-00000.parquet", pixels_BHWC, labels_B, nested=nested)
    statistics = {"mean": (0.5,), "std": (0.5,)} if channels == 1 else {}

    data = placed(settings, **statistics)

    assert data.spec.channels == channels
    assert np.array_equal(pixels_of(data, "train"), pixels_BHWC)
    assert data.load("train").labels_B.tolist() == labels_B.tolist()
    for split in ("val", "test"):
        assert np.array_equal(pixels_of(data, split), pixels_BHWC[data.rows(split)])
    assert sorted([*data.rows("val"), *data.rows("test")]) == list(range(40))


def test_a_part_in_many_files_is_one(root: Path, settings: DataSettings) -> None:
    pixels_BHWC, labels_B = pictures(50, 8)
    for shard in range(4):
        rows = slice(shard * 13, shard * 13 + 13)
        write_parquet(root / f"data/test-0000{shard}-of-00004.parquet", pixels_BHWC[rows], labels_B[rows])

    data = placed(settings)

    for split in ("val", "test"):
        assert np.array_equal(pixels_of(data, split), pixels_BHWC[data.rows(split)])


def test_published_val_and_test_are_taken_whole(root: Path, settings: DataSettings) -> None:
    for part, seed in (("validation", 1), ("test", 2)):
        write_parquet(root / f"{part}.parquet", *pictures(20, 8, seed=seed))

    data = placed(settings)

    assert np.array_equal(pixels_of(data, "val"), pictures(20, 8, seed=1)[0])
    assert np.array_equal(pixels_of(data, "test"), pictures(20, 8, seed=2)[0])


def test_files_may_have_any_name_and_columns_too(root: Path, settings: DataSettings) -> None:
    pixels_BHWC, labels_B = pictures(20, 8)
    write_parquet(root / "mine.parquet", pixels_BHWC, labels_B, image="photo", label="kind")

    data = placed(settings, test="mine.parquet")

    assert np.array_equal(pixels_of(data, "val"), pixels_BHWC[data.rows("val")])


def two_labels(path: Path, stated: bool) -> None:
    pixels_BHWC, labels_B = pictures(20, 8)
    write_parquet(path, pixels_BHWC, labels_B, label="fine", names=NAMES if stated else None)
    table = pq.read_table(path)
    table = table.append_column("coarse", pa.array((labels_B // 5).tolist()))
    pq.write_table(table, path)


def test_of_two_columns_that_could_be_the_label_the_stated_one_is_taken(
    root: Path, settings: DataSettings
) -> None:
    root.mkdir()
    two_labels(root / "test.parquet", stated=True)

    assert set(placed(settings).load("val").labels_B.tolist()) == set(range(10))


def test_of_two_columns_that_could_be_the_label_one_has_to_be_chosen(
    root: Path, settings: DataSettings
) -> None:
    root.mkdir()
    two_labels(root / "test.parquet", stated=False)

    with pytest.raises(DataError, match=r"fine and coarse both could hold the labels .* set data\.label"):
        placed(settings).load("val")
    assert placed(settings, label="coarse").load("val").labels_B.unique().tolist() == [0, 1]


def test_another_order_of_the_classes_is_refused(root: Path, settings: DataSettings) -> None:
    write_parquet(root / "test.parquet", *pictures(20, 8), names=NAMES)

    placed(settings, classes=NAMES).load("val")
    with pytest.raises(DataError, match=r"calls class 1 'b', but data\.classes calls it 'c'"):
        placed(settings, classes=("a", "c", "b", *NAMES[3:])).load("val")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"image": "img"}, r"no column 'img' holds images; the file has image \(struct.*, label \(int64\)"),
        ({"label": "image"}, "no column 'image' holds labels"),
        ({"classes": 7}, "row 7 of parquet in .* has the label 7, but there are 7 classes, counted from 0"),
        ({"test": "t*.parquet", "val": "none.parquet"}, r"is called none\.parquet; correct data\.val"),
    ],
)
def test_what_does_not_fit_the_files_is_told(
    root: Path, settings: DataSettings, changes: dict[str, Any], complaint: str
) -> None:
    write_parquet(root / "test.parquet", *pictures(20, 8))

    with pytest.raises(DataError, match=complaint):
        placed(settings, **changes).load("val")


def test_a_folder_without_files_is_told(root: Path, settings: DataSettings) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*/d, where parquet should be; set data\.root"):
        placed(settings).load("val")
    root.mkdir()
    with pytest.raises(DataError, match=r"no Parquet file in .* is called train\*, val\* or test\*"):
        placed(settings).fingerprint()


def test_a_teacher_cannot_be_trained_without_training_images(root: Path, settings: DataSettings) -> None:
    write_parquet(root / "test.parquet", *pictures(20, 8))

    with pytest.raises(DataError, match=r"has no part for train: no teacher .* give a teacher\.checkpoint"):
        placed(settings).load("train")


def test_a_corrupt_image_is_named_by_file_and_row(root: Path, settings: DataSettings) -> None:
    content = [encoded(each) for each in pictures(20, 8)[0]]
    root.mkdir()
    content[13] = content[13][:40]
    pq.write_table(pa.table({"image": content, "label": list(range(10)) * 2}), root / "test.parquet")
    data = placed(settings)
    split = "val" if 13 in data.rows("val") else "test"

    with pytest.raises(DataError, match=r"test\.parquet, row 13, is not an image that can be decoded"):
        data.load(split)


def test_a_row_without_bytes_is_named(root: Path, settings: DataSettings) -> None:
    root.mkdir()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": None, "path": "a.png"}] * 4, kind)
    pq.write_table(pa.table({"image": images, "label": [0, 1, 0, 1]}), root / "test.parquet")

    with pytest.raises(DataError, match=r"row \d, \(a\.png\) has no bytes; write the data set again"):
        placed(settings).load("val")


@pytest.mark.parametrize("content", [b"", b"PAR1 hello", b"PAR1" + b"x" * 100 + b"PAR1"])
def test_a_damaged_file_is_named(root: Path, settings: DataSettings, content: bytes) -> None:
    root.mkdir()
    (root / "test.parquet").write_bytes(content)

    with pytest.raises(DataError, match=r"test\.parquet is not a Parquet file that can be read"):
        placed(settings).load("val")


def test_the_fingerprint_changes_with_content_size_and_normalisation(
    root: Path, settings: DataSettings
) -> None:
    write_parquet(root / "test.parquet", *pictures(20, 8))
    prints = [
        placed(settings, **changes).fingerprint() for changes in ({}, {"size": 16}, {"mean": (0.1,) * 3})
    ]

    write_parquet(root / "test.parquet", *pictures(20, 8, seed=1))
    prints.append(placed(settings).fingerprint())

    assert len(set(prints)) == 4


def test_a_split_is_decoded_once(root: Path, settings: DataSettings) -> None:
    write_parquet(root / "test.parquet", *pictures(20, 8))

    assert placed(settings).load("val") is placed(settings).load("val")


def test_a_split_that_is_too_large_for_memory_stays_in_its_files(
    root: Path,
    settings: DataSettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pixels_BHWC, labels_B = pictures(20, 8)
    write_parquet(root / "test.parquet", pixels_BHWC, labels_B)
    write_parquet(root / "train.parquet", pixels_BHWC, labels_B)
    monkeypatch.setattr(file_set_module, "HELD_OUT_BUDGET", 100)
    monkeypatch.setattr(file_set_module, "_free_bytes", lambda: 1000)
    data = placed(settings)

    assert isinstance(data.load("val"), StoredPixels)
    assert "its images are decoded again whenever they are shown" in caplog.text
    assert np.array_equal(pixels_of(data, "val"), pixels_BHWC[data.rows("val")])
    with pytest.raises(DataError, match=r"its files cannot be read in random order; set data\.size to less"):
        data.load("train")


def test_no_file_is_in_two_parts(root: Path, settings: DataSettings) -> None:
    write_parquet(root / "test.parquet", *pictures(20, 8))

    with pytest.raises(
        DataError, match=r"test\.parquet would be in both val and test; give data\.test another"
    ):
        placed(settings, val="*.parquet").load("val")
