import gzip
import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from cpsc_core.data.file_set import FileSet
from cpsc_core.data.labelled import PlacedData
from cpsc_core.data.torchvision_sets import CIFAR10, CIFAR100, FASHION_MNIST, MNIST, SVHN, TorchvisionLayout
from cpsc_core.errors import DataError
from cpsc_core.settings import DataSettings
from tests.support.images import pictures

SETS = (CIFAR10, CIFAR100, SVHN, MNIST, FASHION_MNIST)
COUNTS = {"train": 40, "test": 20}


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def write_cifar(root: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files in the format of the published ones; torchvision is told their digests."""
    is_ten = kind == "CIFAR10"
    folder = root / ("cifar-10-batches-py" if is_ten else "cifar-100-python")
    folder.mkdir(parents=True)
    key, classes = ("labels", 10) if is_ten else ("fine_labels", 100)
    lists = {}
    for part, seed in (("train", 0), ("test", 1)):
        names = [f"data_batch_{each}" for each in range(1, 6)] if is_ten and part == "train" else None
        names = names or [{"train": "train", "test": "test_batch" if is_ten else "test"}[part]]
        pixels_BHWC, labels_B = pictures(COUNTS[part], 32, seed=seed)
        for name, rows in zip(names, np.array_split(np.arange(COUNTS[part]), len(names)), strict=True):
            rows_BD = pixels_BHWC[rows].transpose(0, 3, 1, 2).reshape(len(rows), -1)
            (folder / name).write_bytes(pickle.dumps({"data": rows_BD, key: labels_B[rows].tolist()}))
        lists[f"{part}_list"] = [[name, md5(folder / name)] for name in names]
    meta = dict(getattr(datasets, kind).meta)
    (folder / meta["filename"]).write_bytes(pickle.dumps({meta["key"]: [str(i) for i in range(classes)]}))
    meta["md5"] = md5(folder / meta["filename"])
    for name, value in (*lists.items(), ("meta", meta)):
        monkeypatch.setattr(getattr(datasets, kind), name, value)


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    root.mkdir(parents=True)
    known = {}
    for part, seed in (("train", 0), ("test", 1)):
        pixels_BHWC, labels_B = pictures(COUNTS[part], 32, seed=seed)
        path = root / f"{part}_32x32.mat"
        theirs_B = np.where(labels_B == 0, 10, labels_B)  # a zero is class 10 there
        savemat(path, {"X": pixels_BHWC.transpose(1, 2, 3, 0), "y": theirs_B[:, None]})
        known[part] = [f"http://nowhere/{path.name}", path.name, md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", known)


def write_idx(root: Path, kind: str) -> None:
    folder = root / kind / "raw"
    folder.mkdir(parents=True)
    for part, seed in (("train", 0), ("t10k", 1)):
        count = COUNTS["train" if part == "train" else "test"]
        pixels_BHWC, labels_B = pictures(count, 28, 1, seed=seed)
        header = np.array([2051, count, 28, 28], ">i4").tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + pixels_BHWC.tobytes())
        header = np.array([2049, count], ">i4").tobytes()
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + labels_B.astype(np.uint8).tobytes())


def write(data_set: FileSet, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert isinstance(data_set.layout, TorchvisionLayout)
    kind = data_set.layout.kind
    if kind.startswith("CIFAR"):
        write_cifar(root, kind, monkeypatch)
    elif kind == "SVHN":
        write_svhn(root, monkeypatch)
    else:
        write_idx(root, kind)
    return root


@pytest.mark.parametrize("data_set", SETS, ids=lambda each: each.name)
def test_what_torchvision_keeps_is_read(
    data_set: FileSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(data_set, tmp_path / "d", monkeypatch)
    spec = data_set.spec
    data = PlacedData.of(DataSettings(name=data_set.name, root=str(root)))

    for split, part, seed in (("train", "train", 0), ("val", "test", 1), ("test", "test", 1)):
        pixels_BHWC, labels_B = pictures(COUNTS[part], spec.size, spec.channels, seed=seed)
        rows = np.arange(COUNTS[part]) if split == "train" else data.rows(split)
        images = data.load(split)
        found_BCHW = images.raw(torch.arange(len(images))).numpy()
        assert np.array_equal(found_BCHW, pixels_BHWC[rows].transpose(0, 3, 1, 2))
        assert images.labels_B.tolist() == labels_B[rows].tolist()
    assert len(data.fingerprint()) == 64


@pytest.mark.parametrize("data_set", SETS, ids=lambda each: each.name)
def test_where_it_is_missing_the_command_is_told(data_set: FileSet, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=rf"is not there; download it .*`cpsc-orchestrate data {data_set.name} --"
    ):
        PlacedData.of(DataSettings(name=data_set.name, root=str(tmp_path))).load("val")


@pytest.mark.parametrize("data_set", [CIFAR10, CIFAR100, SVHN], ids=lambda each: each.name)
def test_a_changed_file_is_refused_before_it_is_opened(
    data_set: FileSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(data_set, tmp_path / "d", monkeypatch)
    path = next(path for path in data_set.layout.files(root) if "test" in path.name)
    path.write_bytes(pickle.dumps(Canary(tmp_path / "canary")))

    with pytest.raises(DataError, match="are damaged or not the published ones"):
        PlacedData.of(DataSettings(name=data_set.name, root=str(root))).load("val")
    assert not (tmp_path / "canary").exists()


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_size_and_a_normalisation_may_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(MNIST, tmp_path / "d", monkeypatch)

    data = PlacedData.of(DataSettings(name="mnist", root=str(root), size=32, mean=(0.5,), std=(0.5,)))

    assert (data.spec.size, data.spec.mean, data.spec.std) == (32, (0.5,), (0.5,))
    assert next(data.load("val").batches(4)).images_BCHW.shape == (4, 1, 32, 32)


def test_downloads_are_those_of_torchvision() -> None:
    for data_set, kind in ((CIFAR10, datasets.CIFAR10), (CIFAR100, datasets.CIFAR100)):
        [download] = data_set.downloads
        assert (download.url, download.md5) == (kind.url, kind.tgz_md5)
        names = [name for name, _ in (*kind.train_list, *kind.test_list)] + [kind.meta["filename"]]
        files = sorted(path.name for path in map(Path, data_set.layout.names))  # type: ignore[attr-defined]
        assert files == sorted(names)
    for data_set, kind in ((MNIST, datasets.MNIST), (FASHION_MNIST, datasets.FashionMNIST)):
        assert [each.md5 for each in data_set.downloads] == [digest for _, digest in kind.resources]
        assert all(each.url.rpartition("/")[0] + "/" in kind.mirrors for each in data_set.downloads)
    theirs = {tuple(each) for each in datasets.SVHN.split_list.values()}
    assert {(each.url, each.path, each.md5) for each in SVHN.downloads} < theirs


def test_an_archive_beside_the_files_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(MNIST, tmp_path / "d", monkeypatch)
    (root / "MNIST/raw/train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b""))

    assert len(PlacedData.of(DataSettings(name="mnist", root=str(root))).load("val")) == 10
