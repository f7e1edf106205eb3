"""Small data sets in the files that torchvision keeps them in: a folder it once downloaded to is read.

CIFAR comes in pickles. They are opened only after torchvision has found each to be the published file, by its
digest. The publishers' test images are cut in two: half to validate and half to test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cpsc_core.data.file_set import Download, FileSet, Parts
from cpsc_core.data.normalization import NORMALIZATIONS
from cpsc_core.data.store import Arrays, Store
from cpsc_core.errors import DataError
from cpsc_core.images import ImageSpec

__all__ = ["CIFAR10", "CIFAR100", "FASHION_MNIST", "MNIST", "SVHN"]


@dataclass(frozen=True, slots=True)
class TorchvisionLayout:
    """Files that a class of torchvision reads."""

    kind: str
    """Name of the class in torchvision.datasets."""
    names: tuple[str, ...]
    """Files below the root that it reads."""

    def files(self, root: Path) -> list[Path]:
        """All of them; DataError names the first that is missing."""
        paths = [root / name for name in self.names]
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            data_set = _BY_KIND[self.kind]
            raise DataError(f"{missing} is not there; {data_set.advice(root)}")
        return paths

    def parts(self, root: Path, class_names: tuple[str, ...]) -> Parts:
        """Train and test."""
        del class_names
        self.files(root)
        return {part: partial(_open, self.kind, root, part) for part in ("train", "test")}


def _open(kind: str, root: Path, part: str) -> Store:
    from torchvision import datasets

    options: dict[str, Any] = {"split": part} if kind == "SVHN" else {"train": part == "train"}
    try:
        read = getattr(datasets, kind)(str(root), **options)
    except Exception as error:  # a damaged file provokes whatever its format allows
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"the {part} images of {kind} in {root} are damaged or not the published ones ({reason}); remove "
            f"them, then {_BY_KIND[kind].advice(root)}"
        ) from error
    labels_B = read.labels if kind == "SVHN" else read.targets
    pixels = np.asarray(read.data)
    return Arrays(np.asarray(labels_B, dtype=np.int64), _AXES.get(kind, _as_it_is)(pixels))


def _as_it_is(pixels_BHWC: Any) -> Any:
    return pixels_BHWC


_AXES: dict[str, Callable[[Any], Any]] = {
    "SVHN": lambda pixels_BCHW: pixels_BCHW.transpose(0, 2, 3, 1),
    "MNIST": lambda pixels_BHW: pixels_BHW[..., None],
    "FashionMNIST": lambda pixels_BHW: pixels_BHW[..., None],
}
"""How to bring the axes of what torchvision has into our order."""

_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _set(
    name: str,
    kind: str,
    files: tuple[str, ...],
    class_names: tuple[str, ...],
    *,
    size: int,
    flips: bool,
    licence: str,
    published: dict[str, int],
    downloads: tuple[Download, ...],
) -> FileSet:
    statistics = NORMALIZATIONS[name]
    return FileSet(
        name=name,
        spec=ImageSpec(
            num_classes=len(class_names),
            channels=len(statistics.mean),
            size=size,
            mean=statistics.mean,
            std=statistics.std,
        ),
        class_names=class_names,
        flips=flips,
        layout=TorchvisionLayout(kind, files),
        licence=licence,
        published=published,
        downloads=downloads,
    )


def _idx_downloads(base: str, kind: str, facts: tuple[tuple[str, int], ...]) -> tuple[Download, ...]:
    return tuple(
        Download(f"{base}{name}.gz", f"{kind}/raw/{name}.gz", md5, size, unpack=f"{kind}/raw/{name}")
        for name, (md5, size) in zip(_IDX, facts, strict=True)
    )


CIFAR10 = _set(
    "cifar10",
    "CIFAR10",
    tuple(
        f"cifar-10-batches-py/{name}"
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
    ),
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    size=32,
    flips=True,
    licence="none stated; to be cited as Krizhevsky 2009",
    published={"train": 50_000, "test": 10_000},
    downloads=(
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            170_498_071,
            unpack="cifar-10-batches-py",
        ),
    ),
)

_CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

CIFAR100 = _set(
    "cifar100",
    "CIFAR100",
    ("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta"),
    tuple(_CIFAR100_CLASSES.split()),
    size=32,
    flips=True,
    licence="none stated; to be cited as Krizhevsky 2009",
    published={"train": 50_000, "test": 10_000},
    downloads=(
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            169_001_437,
            unpack="cifar-100-python",
        ),
    ),
)

SVHN = _set(
    "svhn",
    "SVHN",
    ("train_32x32.mat", "test_32x32.mat"),
    tuple("0123456789"),
    size=32,
    flips=False,
    licence="for non-commercial use; to be cited as Netzer et al. 2011",
    published={"train": 73_257, "test": 26_032},
    downloads=(
        Download(
            "http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
            "train_32x32.mat",
            "e26dedcc434d2e4c54c9b2d4a06d8373",
            182_040_794,
        ),
        Download(
            "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
            "test_32x32.mat",
            "eb5a983be6a315427106f1b164d9cef3",
            64_275_384,
        ),
    ),
)

MNIST = _set(
    "mnist",
    "MNIST",
    tuple(f"MNIST/raw/{name}" for name in _IDX),
    tuple("0123456789"),
    size=28,
    flips=False,
    licence="CC BY-SA 3.0; LeCun, Cortes and Burges",
    published={"train": 60_000, "test": 10_000},
    downloads=_idx_downloads(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "MNIST",
        (
            ("f68b3c2dcbeaaa9fbdd348bbdeb94873", 9_912_422),
            ("d53e105ee54ea40749a09fcbcd1e9432", 28_881),
            ("9fb629c4189551a2d022fa330f9573f3", 1_648_877),
            ("ec29112dd5afa0611ce80d1b7f02629c", 4_542),
        ),
    ),
)

FASHION_MNIST = _set(
    "fashion_mnist",
    "FashionMNIST",
    tuple(f"FashionMNIST/raw/{name}" for name in _IDX),
    (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    size=28,
    flips=True,
    licence="MIT; Zalando SE",
    published={"train": 60_000, "test": 10_000},
    downloads=_idx_downloads(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "FashionMNIST",
        (
            ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
            ("25c81989df183df01b3e8a0aad5dffbe", 29_515),
            ("bef4ecab320f06d8554ea6380940ec79", 4_422_102),
            ("bb300cfdad3c16e7a12a480ee83cd310", 5_148),
        ),
    ),
)

_BY_KIND = {
    each.layout.kind: each
    for each in (CIFAR10, CIFAR100, SVHN, MNIST, FASHION_MNIST)
    if isinstance(each.layout, TorchvisionLayout)
}
