"""What the data block must have for its data set, and what networks must be able to do with its images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cpsc_core import tables
from cpsc_core.data.labelled import PlacedData
from cpsc_core.errors import CoreError
from orchestrator.config.document import Node, Problem

if TYPE_CHECKING:
    from orchestrator.config.schema import SweepConfig

__all__ = ["data_is_described", "generator_can_draw"]

_GENERATOR_DOUBLES_TWICE = 4


def data_is_described(config: SweepConfig, root: Node) -> Iterator[Problem]:
    """The settings of the block and the table make a data set; its files are not looked at."""
    del root
    if config.data.name not in tables.DATA_SETS:
        return
    try:
        placed = PlacedData.of(config.data.settings())
    except CoreError as error:
        text = str(error)
        key, _, rest = text.partition(" ")
        keys = tuple(key.split(".")) if key.startswith("data.") else ("data",)
        yield Problem(keys, rest if len(keys) > 1 else text)
    else:
        if placed.root is None and hasattr(placed.data_set, "downloads"):
            yield Problem(("data",), f"needs root, the folder that the files of {config.data.name} lie in")


def generator_can_draw(config: SweepConfig, _: Node) -> Iterator[Problem]:
    """The generator doubles its first maps twice."""
    try:
        size = PlacedData.of(config.data.settings()).spec.size
    except CoreError:  # said elsewhere
        return
    if rest := size % _GENERATOR_DOUBLES_TWICE:
        smaller = size - rest
        yield Problem(
            ("data", "name" if config.data.size is None else "size"),
            f"its images are {size} pixels wide, but the generator draws multiples of 4; resize them to "
            f"{smaller} or {smaller + _GENERATOR_DOUBLES_TWICE}",
        )
