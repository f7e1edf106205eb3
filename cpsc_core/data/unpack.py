"""Archives, taken apart without trusting what they say.

Everything goes to a draft beside the target, which is renamed when all is there. Nothing is written outside
of it: paths that lead out, links and devices are refused, and so is an archive that unpacks to far more than
it weighs.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from cpsc_core.attempt import replacing
from cpsc_core.errors import DataError

__all__ = ["unpack"]

LARGEST_GROWTH = 200
"""An archive may unpack to so many times its size; the published ones grow by 1 to 12."""
_LARGEST_SLACK = 1 << 20
_CHUNK = 1 << 20


def unpack(archive: Path, target: Path) -> None:
    """Make a file from a .gz, or from a .tar.gz the folder in it that is called like the target.

    Raises DataError for an archive that is damaged or hostile; then nothing is there.
    """
    try:
        if archive.name.endswith((".tar.gz", ".tgz")):
            _unpack_tar(archive, target)
        else:
            with gzip.open(archive) as source, replacing(target) as draft, draft.open("wb") as out:
                _copy(source, out, _Allowance(archive))
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{archive} cannot be unpacked ({error}); remove it and download it again") from error


class _Allowance:
    """How much an archive may still unpack to."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._left = archive.stat().st_size * LARGEST_GROWTH + _LARGEST_SLACK

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise DataError(
                f"{self._archive} unpacks to more than {LARGEST_GROWTH} times its size; it is not what it "
                "claims to be, remove it"
            )


def _unpack_tar(archive: Path, target: Path) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        allowance = _Allowance(archive)
        with tarfile.open(archive, mode="r|gz") as tar:
            for member, inner in _members(tar, archive, target.name):
                _write(tar, member, draft / inner, allowance)
        if not any(draft.iterdir()):
            raise DataError(f"{archive} has no folder {target.name}; remove it and download it again")
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _members(tar: tarfile.TarFile, archive: Path, folder: str) -> Iterator[tuple[tarfile.TarInfo, Path]]:
    """The plain files of a folder, each with its path in there."""
    for member in tar:
        path = Path(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
            raise DataError(
                f"{archive} has {member.name!r}, which leads out of it or is no plain file; it is not what "
                "it claims to be, remove it"
            )
        if member.isfile() and path.parts[0] == folder and len(path.parts) > 1:
            yield member, Path(*path.parts[1:])


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, allowance: _Allowance) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise DataError(f"{member.name} is no plain file")
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("xb") as out:
        _copy(source, out, allowance)


def _copy(source: gzip.GzipFile | IO[bytes], out: BinaryIO, allowance: _Allowance) -> None:
    while chunk := source.read(_CHUNK):
        allowance.spend(len(chunk))
        out.write(chunk)
