"""The names an experiment file may use, and what each one stands for.

Every table maps a name to "module:attribute"; nothing is imported before it is looked up. Installed packages
add names with entry points of the group written beside each table. A table may also have libraries:
LIBRARY:NAME then stands for what the library calls NAME, and it is the library's to know NAME or not.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from cpsc_core.errors import SettingsError, UnknownNameError

__all__ = ["DATA_SETS", "LOSSES", "METHODS", "NETWORKS", "Table", "library_of", "lookup", "names"]


class Table(Mapping[str, str]):
    """What each name stands for, as "module:attribute": ours, then those of installed packages.

    `libraries` maps the LIBRARY of names LIBRARY:NAME to what is called with NAME; such names are in the
    table but not listed.
    """

    def __init__(
        self, noun: str, *, group: str, ours: Mapping[str, str], libraries: Mapping[str, str] | None = None
    ) -> None:
        self.noun = noun
        self.group = group
        self.ours = ours
        self.libraries = libraries or {}

    @cached_property
    def _entries(self) -> dict[str, str]:
        entries = dict(self.ours)
        for point in entry_points(group=self.group):
            if entries.setdefault(point.name, point.value) != point.value:
                raise SettingsError(
                    f"{self.noun} {point.name!r} is {entries[point.name]}, but an installed package offers "
                    f"{point.value} under the same name; rename or remove that package's entry point"
                )
        return entries

    def __getitem__(self, name: str) -> str:
        library, inner = library_of(name)
        return self.libraries[library] if inner and library in self.libraries else self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


NETWORKS = Table(
    "network",
    group="cpsc_core.networks",
    ours={
        "resnet8": "cpsc_core.networks.cifar_resnet:resnet8",
        "resnet20": "cpsc_core.networks.cifar_resnet:resnet20",
        "resnet20_b": "cpsc_core.networks.cifar_resnet:resnet20_b",
        "resnet32": "cpsc_core.networks.cifar_resnet:resnet32",
        "resnet32_b": "cpsc_core.networks.cifar_resnet:resnet32_b",
        "resnet44": "cpsc_core.networks.cifar_resnet:resnet44",
        "resnet44_b": "cpsc_core.networks.cifar_resnet:resnet44_b",
        "resnet56": "cpsc_core.networks.cifar_resnet:resnet56",
        "resnet56_b": "cpsc_core.networks.cifar_resnet:resnet56_b",
        "resnet18": "cpsc_core.networks.resnet:resnet18",
        "resnet34": "cpsc_core.networks.resnet:resnet34",
        "resnet50": "cpsc_core.networks.resnet:resnet50",
        "vgg11": "cpsc_core.networks.vgg:vgg11",
        "wrn16_1": "cpsc_core.networks.wide_resnet:wrn16_1",
        "wrn16_2": "cpsc_core.networks.wide_resnet:wrn16_2",
        "wrn40_1": "cpsc_core.networks.wide_resnet:wrn40_1",
        "wrn40_2": "cpsc_core.networks.wide_resnet:wrn40_2",
    },
    libraries={
        "timm": "cpsc_core.networks.library:timm_network",
        "torchvision": "cpsc_core.networks.library:torchvision_network",
    },
)

DATA_SETS = Table(
    "data set",
    group="cpsc_core.data_sets",
    ours={
        "cifar10": "cpsc_core.data.torchvision_sets:CIFAR10",
        "cifar100": "cpsc_core.data.torchvision_sets:CIFAR100",
        "digits": "cpsc_core.data.digits:DIGITS",
        "fashion_mnist": "cpsc_core.data.torchvision_sets:FASHION_MNIST",
        "imagefolder": "cpsc_core.data.image_folder:IMAGEFOLDER",
        "mnist": "cpsc_core.data.torchvision_sets:MNIST",
        "parquet": "cpsc_core.data.parquet:PARQUET",
        "svhn": "cpsc_core.data.torchvision_sets:SVHN",
        "tiny_imagenet": "cpsc_core.data.tiny_imagenet:TINY_IMAGENET",
    },
)

LOSSES = Table(
    "loss",
    group="cpsc_core.losses",
    ours={
        "log_mse": "cpsc_core.distill.objective:LOG_MSE",
        "mse": "cpsc_core.distill.objective:MSE",
    },
)

METHODS = Table(
    "method",
    group="cpsc_core.methods",
    ours={
        "cpsc": "cpsc_core.distill.trainer:Trainer",
    },
)


def names(table: Table) -> list[str]:
    """All names of a table, sorted, those of installed packages included; then a form for each library."""
    return [*sorted(table), *(f"{library}:NAME" for library in sorted(table.libraries))]


def library_of(name: str) -> tuple[str, str]:
    """LIBRARY and NAME of a name LIBRARY:NAME; NAME is empty for any other."""
    library, _, inner = name.partition(":")
    return library, inner


def lookup(table: Table, name: str) -> Any:
    """What a name stands for, imported; UnknownNameError lists the table and the nearest name."""
    if name not in table:
        near = difflib.get_close_matches(name, table, n=1, cutoff=0.0)
        hint = f"; nearest: {near[0]}" if near else ""
        raise UnknownNameError(
            f"no {table.noun} is called {name!r}; there are {', '.join(names(table))}{hint}"
        )
    module, _, attribute = table[name].partition(":")
    found = getattr(import_module(module), attribute)
    library, inner = library_of(name)
    return partial(found, inner) if inner and library in table.libraries else found
