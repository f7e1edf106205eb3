"""Files from the net: whole or not there, whatever happens on the way.

A download goes to `<name>.part`. One that was cut off is gone on with, where the server can; then the digest
decides whether the file is the published one, and only then it gets its name.
"""

from __future__ import annotations

import hashlib
import http
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from cpsc_core.attempt import make_durable
from cpsc_core.data.file_set import Download, FileSet
from cpsc_core.data.unpack import unpack
from cpsc_core.errors import DataError

__all__ = ["Told", "fetch", "obtain"]

Told = Callable[[str, int, int], None]
"""Called with the name of a file, the bytes that are there and those there will be."""

_CHUNK = 1 << 18
_ATTEMPTS = 5
_SILENCE_SECONDS = 60.0
_NOT_SATISFIABLE = 416


def obtain(data_set: FileSet, root: Path, told: Told = lambda *_: None) -> list[Path]:
    """Download what is missing of a data set to a folder, verified and unpacked; the files that are there.

    Raises DataError if there is nothing to download, a server does not answer, or a file is not the one that
    was published.
    """
    if not data_set.downloads:
        raise DataError(f"{data_set.name} is data of your own; there is nothing to download")
    try:
        root.mkdir(parents=True, exist_ok=True)
        for download in data_set.downloads:
            _have(download, root, told)
    except OSError as error:
        raise DataError(f"{root} cannot be written to: {error}; choose another folder") from error
    return data_set.layout.files(root)


def _have(download: Download, root: Path, told: Told) -> None:
    target = root / download.path
    unpacked = root / download.unpack if download.unpack else target
    if unpacked.exists():
        return
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        fetch(download.url, target, md5=download.md5, told=told)
    if unpacked != target:
        unpack(target, unpacked)


def fetch(url: str, target: Path, *, md5: str, told: Told = lambda *_: None) -> None:
    """Download a file to its place, going on with what an earlier attempt left."""
    part = target.with_name(target.name + ".part")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _receive(url, part, told)
            break
        except (OSError, http.client.HTTPException) as error:
            _judge(error, url, target, last=attempt == _ATTEMPTS)
            time.sleep(min(2.0 ** (attempt - 1), 10.0) * _PATIENCE)
    digest = _md5(part)
    if digest != md5:
        part.unlink()
        raise DataError(
            f"{url} gave a file with MD5 {digest}, but the published one has {md5}; it was removed: try "
            f"again, or put the right file at {target}"
        )
    make_durable(part)
    part.replace(target)
    make_durable(target.parent)


_PATIENCE = 1.0
"""Scales the waits between attempts."""


def _receive(url: str, part: Path, told: Told) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "cpsc-orchestrate"})  # noqa: S310
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_SILENCE_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == _NOT_SATISFIABLE:  # it is all there; the digest will tell
            return
        raise
    with answer:
        goes_on = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        have = have if goes_on else 0
        total = have + int(answer.headers.get("Content-Length") or 0)
        with part.open("ab" if goes_on else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                told(part.stem, have, total)
    if have < total:
        raise ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")


def _judge(error: Exception, url: str, target: Path, *, last: bool) -> None:
    """Raise what no further attempt can mend."""
    is_refusal = (
        isinstance(error, urllib.error.HTTPError) and error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR
    )
    is_local = isinstance(error, OSError) and error.filename is not None
    if is_local and not isinstance(error, urllib.error.HTTPError):
        raise error
    if last or is_refusal:
        raise DataError(
            f"{url} cannot be downloaded ({error}); what came is kept and the same command goes on with it; "
            f"on a machine without the net, put the file at {target}"
        ) from error


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)  # what the publishers state
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
