"""What a driver is told to run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from orchestrator.cluster.shape import Shape
from orchestrator.trial.parcel import Parcel

__all__ = ["Assignment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One attempt at one trial."""

    name: str
    """The trial's hash."""
    attempt: int
    """The attempt's number, from 1."""
    folder: str
    """Where the trial lies: absolute path of its folder, or its address in a bucket."""
    settings: dict[str, Any]
    """The trial's settings, see cpsc_core.settings.TrialSettings."""
    shape: Shape
    """The processes it runs on."""
    stop_file: str
    """File, or address of an object, whose existence asks the trial to stop."""
    hang_seconds: float
    """Silence after which the ranks count as hanging."""
    recompute: bool = False
    """Whether activations are computed twice, to save memory, although the settings do not say so."""
    nodes: tuple[str, ...] = ()
    """Ray's ids of the machines that may run it; empty: any."""
    parcels: Mapping[str, Parcel] = field(default_factory=dict)
    """Files of the teacher that its machines are sent, by the field of its settings that names them."""

    def to_config(self) -> dict[str, Any]:
        """The assignment as a Tune config."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The assignment in a Tune config."""
        built = {
            "shape": Shape(**config["shape"]),
            "nodes": tuple(config["nodes"]),
            "parcels": {name: Parcel(**raw) for name, raw in config["parcels"].items()},
        }
        return cls(**{**config, **built})
