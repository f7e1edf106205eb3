"""The door to object stores: whole files in and out of a bucket, through pyarrow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from orchestrator.errors import UnreachableError
from orchestrator.store.address import BucketAddress

__all__ = ["Bucket", "Stored"]

_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Together less than an owner may be silent, see orchestrator.store.object_lease."""
_GOOGLE_PATIENCE = timedelta(seconds=1)
"""How long Google's library tries again by itself: it is us who do, and the owner's silence is counted."""
_CHUNK_BYTES = 8 * 1024**2
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_HOPELESS = (
    "NO_SUCH_BUCKET",
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY",
    "SIGNATURE_DOES_NOT_MATCH",
    "Forbidden",
    "access token",
)

_QUOTED = (("AWS Error ", (" (Request ID", ";")), ("with a last message of ", (" error_info=", ". ")))
"""What stands before and after the reason in what the libraries say."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Stored:
    """One object."""

    key: str
    """Its name below the bucket's prefix."""
    size: int
    """Bytes."""
    modified: int
    """When it was written, by the store's own clock, nanoseconds; many stores round to whole seconds."""


class Bucket:
    """What lies below one address; keys are relative to it.

    Objects are written whole: a reader sees the old content or the new. What fails for a moment is tried
    again for some seconds; then UnreachableError says what could not be done.
    """

    def __init__(self, address: BucketAddress, pauses: tuple[float, ...] = _PAUSES_SECONDS) -> None:
        """The bucket at an address; credentials come from the environment. Nothing is asked of it yet."""
        self.address = address
        self._pauses = pauses
        self._files: Any = None

    def objects(self, folder: str = "") -> dict[str, Stored]:
        """Every object below a folder, by key; empty if there is none.

        Keys that would lead out of the folder, were they paths, are left out.
        """
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._path(folder), recursive=True, allow_not_found=True)
        infos = self._ask(f"list {folder or 'it'}", lambda files: files.get_file_info(selector))
        start = len(self.address.path) + 1
        found = (
            Stored(info.path[start:], info.size, info.mtime_ns)
            for info in infos
            if info.type == FileType.File
        )
        return {each.key: each for each in found if _is_safe(each.key)}

    def names(self, folder: str = "") -> list[str]:
        """What lies directly in a folder, objects and folders, by name, sorted."""
        from pyarrow.fs import FileSelector

        # Google's library does not tell of a folder, only of what lies in it.
        is_deep = self.address.scheme == "gs"
        selector = FileSelector(self._path(folder), recursive=is_deep, allow_not_found=True)
        infos = self._ask(f"list {folder or 'it'}", lambda files: files.get_file_info(selector))
        start = len(self._path(folder)) + 1
        return sorted({info.path[start:].partition("/")[0] for info in infos})

    def has(self, key: str) -> bool:
        """Whether there is an object of that name."""

        def act(files: Any) -> None:
            files.open_input_file(self._path(key)).close()  # one request; for its info pyarrow sends two

        try:
            self._ask(f"look for {key}", act)
        except FileNotFoundError:
            return False
        return True

    def is_there(self) -> bool:
        """Whether the bucket itself exists."""
        from pyarrow.fs import FileType

        info = self._ask("look at it", lambda files: files.get_file_info(self.address.bucket))
        return bool(info.type != FileType.NotFound)

    def read(self, key: str) -> bytes | None:
        """The content of an object; None if there is none."""

        def act(files: Any) -> bytes:
            with files.open_input_stream(self._path(key)) as stream:
                return bytes(stream.read())

        try:
            return self._ask(f"read {key}", act)
        except FileNotFoundError:
            return None

    def write(self, key: str, content: bytes) -> None:
        """Write an object, replacing what was there."""

        def act(files: Any) -> None:
            with files.open_output_stream(self._path(key)) as stream:
                stream.write(content)

        self._send(key, act)

    def download(self, key: str, path: Path) -> None:
        """Write an object's content to a file; raises FileNotFoundError if there is none."""

        def act(files: Any) -> None:
            with files.open_input_stream(self._path(key)) as stream, path.open("wb") as file:
                while chunk := stream.read(_CHUNK_BYTES):
                    file.write(chunk)

        self._ask(f"read {key}", act)

    def upload(self, path: Path, key: str) -> None:
        """Write a file's content to an object, replacing what was there."""

        with path.open("rb") as file:

            def act(files: Any) -> None:
                file.seek(0)
                with files.open_output_stream(self._path(key)) as stream:
                    while chunk := file.read(_CHUNK_BYTES):
                        stream.write(chunk)

            self._send(key, act)

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""

        def act(files: Any) -> None:
            try:
                files.delete_file(self._path(key))
            except FileNotFoundError:
                return

        self._ask(f"remove {key}", act)

    def delete_folder(self, folder: str) -> None:
        """Remove every object below a folder, in no order."""

        def act(files: Any) -> None:
            try:
                files.delete_dir(self._path(folder))
            except OSError as error:  # of Google's library one without a kind
                if not isinstance(error, FileNotFoundError) and "No such directory" not in str(error):
                    raise

        self._ask(f"remove {folder}", act)

    def _path(self, key: str) -> str:
        return f"{self.address.path}/{key}" if key else self.address.path

    def _send(self, key: str, act: Callable[[Any], None]) -> None:
        try:
            self._ask(f"write {key}", act)
        except FileNotFoundError as error:
            raise UnreachableError(self._describe(f"write {key}", "the bucket does not exist")) from error

    def _ask(self, what: str, act: Callable[[Any], _Answer]) -> _Answer:
        for pause in (*self._pauses, None):
            try:
                if self._files is None:
                    self._files = _connect(self.address)
                return act(self._files)
            except FileNotFoundError:
                raise
            except OSError as error:
                if error.errno is not None:
                    raise  # of this machine's own disk: what a store says has no number
                if pause is None or any(word in str(error) for word in _HOPELESS):
                    raise UnreachableError(self._describe(what, _reason(error))) from error
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _describe(self, what: str, reason: str) -> str:
        return (
            f"{self.address} cannot be used, asked to {what}: {reason}; check the address, "
            "the network and the credentials in the environment"
        )


def _reason(error: OSError) -> str:
    """What Amazon's or Google's library says, without where in its code it says so."""
    said = " ".join(str(error).split())
    for begin, ends in _QUOTED:
        said = said.rpartition(begin)[2]
        for end in ends:
            said = said.partition(end)[0]
    return said


def _connect(address: BucketAddress) -> Any:
    from pyarrow import fs

    options = dict(address.options)
    if address.scheme == "gs":
        anonymous = options.pop("anonymous", "") == "true"
        return fs.GcsFileSystem(**options, anonymous=anonymous, retry_time_limit=_GOOGLE_PATIENCE)
    endpoint = options.pop("endpoint_override", None) or next(
        (os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None
    )
    # it is us who try again; and what is small is sent in one request
    common = {"retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=1), "allow_delayed_open": True}
    if endpoint is None:
        region = options.pop("region", None) or fs.resolve_s3_region(address.bucket)
        return fs.S3FileSystem(region=region, **options, **common)
    parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    options.setdefault("scheme", parts.scheme)
    return fs.S3FileSystem(endpoint_override=parts.netloc, **options, **common)


def _is_safe(key: str) -> bool:
    return not any(part in ("", ".", "..") for part in key.split("/")) and "\\" not in key and "\0" not in key
