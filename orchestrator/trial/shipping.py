"""Files that reach a machine by their content, whatever folders it shares with this one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle

from cpsc_core.settings import TeacherSettings
from orchestrator.trial.failure import GangLostError
from orchestrator.trial.parcel import Parcel

__all__ = ["cache_folder", "pack", "pack_teacher", "unpack", "unpack_teacher"]


def cache_folder() -> Path:
    """Where this machine keeps what it was sent: a folder that may be removed at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cpsc-orchestrate"


def pack(path: Path) -> Parcel:
    """A file of this machine as a parcel, good for as long as this process lives; raises OSError."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    # pickled by hand a reference is plain text, which passes through everything, and is kept for ever
    ticket = cloudpickle.dumps(ray.put(content)).hex()  # type: ignore[no-untyped-call]
    return Parcel(name=path.name, sha256=digest, ticket=ticket)


def unpack(parcel: Parcel) -> Path:
    """The file on this machine, fetched unless the cache has it; its content was verified just now.

    Raises GangLostError if what arrives is damaged, OSError if the cache cannot be written.
    """
    target = cache_folder() / parcel.sha256 / parcel.name
    if _digest(target) != parcel.sha256:
        _write(target, ray.get(cloudpickle.loads(bytes.fromhex(parcel.ticket))))
        if (found := _digest(target)) != parcel.sha256:
            raise GangLostError(
                f"{parcel.name} arrived damaged in {target}: its digest is {found}, not {parcel.sha256}"
            )
    return target


def pack_teacher(teacher: TeacherSettings) -> dict[str, Parcel]:
    """The files of a teacher, by the field of its settings that names them."""
    files = {"weights": teacher.weights, "probe": teacher.probe}
    return {field: pack(Path(path)) for field, path in files.items() if path is not None}


def unpack_teacher(teacher: TeacherSettings, parcels: Mapping[str, Parcel]) -> TeacherSettings:
    """The settings of a teacher whose files lie on this machine, once those that were sent do."""
    files: dict[str, Any] = {field: str(unpack(parcel)) for field, parcel in parcels.items()}
    return replace(teacher, **files)


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _write(target: Path, content: bytes) -> None:
    """Whole or not at all; many processes may do it at once, on several machines with one home."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
