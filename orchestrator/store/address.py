"""Addresses of storage on an object store: s3://bucket/prefix and gs://bucket/prefix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from orchestrator.errors import UsageError

__all__ = ["BucketAddress", "Storage", "is_remote", "path_at", "storage_at"]

_SCHEMES = {"s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "gs": "GOOGLE_APPLICATION_CREDENTIALS"}
_OPTIONS = {
    "s3": ("endpoint_override", "region", "scheme"),
    "gs": ("anonymous", "endpoint_override", "scheme"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketAddress:
    """A place in a bucket. It holds no credentials: those come from the environment or the machine's role."""

    scheme: str
    """s3 or gs."""
    bucket: str
    """Name of the bucket."""
    parts: tuple[str, ...]
    """What leads to the place, as the parts of a path."""
    options: tuple[tuple[str, str], ...] = ()
    """endpoint_override, region, scheme and anonymous, for a store that is not Amazon's or Google's."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address in a URI; raises UsageError, saying what is allowed, if it is none."""
        try:
            parts = urlsplit(text)
        except ValueError as error:
            raise UsageError(f"storage {text} is no address: {error}") from error
        if parts.scheme not in _SCHEMES:
            raise UsageError(
                f"storage must be a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, not {text}"
            )
        if "@" in parts.netloc:
            raise UsageError(
                f"storage in {parts.scheme}://{parts.netloc.rpartition('@')[2]} carries credentials; leave "
                f"them out and set {_SCHEMES[parts.scheme]} in the environment"
            )
        options = tuple(sorted(parse_qsl(parts.query, keep_blank_values=True)))
        known = _OPTIONS[parts.scheme]
        unknown = [name for name, _ in options if name not in known]
        names = tuple(each for each in parts.path.split("/") if each)
        if unknown or parts.fragment or not parts.netloc or any(each in (".", "..") for each in names):
            raise UsageError(
                f"storage {parts.scheme}://{parts.netloc}{parts.path} is not understood: it must be "
                f"{parts.scheme}://BUCKET/PREFIX, and after a ? only {', '.join(known)} may be set"
            )
        return cls(scheme=parts.scheme, bucket=parts.netloc, parts=names, options=options)

    @property
    def name(self) -> str:
        """The last part; empty for a bucket itself."""
        return self.parts[-1] if self.parts else ""

    @property
    def parent(self) -> BucketAddress:
        """The place that holds it."""
        return replace(self, parts=self.parts[:-1])

    @property
    def path(self) -> str:
        """Bucket and prefix, as pyarrow names them."""
        return "/".join((self.bucket, *self.parts))

    def __truediv__(self, key: str) -> BucketAddress:
        return replace(self, parts=(*self.parts, *key.split("/")))

    def __str__(self) -> str:
        query = f"?{urlencode(self.options, safe='/:')}" if self.options else ""
        return f"{self.scheme}://{self.path}{query}"


Storage = Path | BucketAddress
"""What holds sweeps."""


def is_remote(text: str) -> bool:
    """Whether a text is meant as an address rather than as a path, even if a slash is missing."""
    return "://" in text or text.startswith(tuple(f"{scheme}:" for scheme in _SCHEMES))


def storage_at(text: str) -> Storage:
    """The folder or the bucket that a text names; raises UsageError for what is neither."""
    return BucketAddress.parse(text) if is_remote(text) else path_at(text).absolute()


def path_at(text: str) -> Path:
    """The path that a text names, ~ expanded; UsageError if it is empty or there is no such user."""
    if not text:
        raise UsageError("a path is empty; perhaps a variable of the shell is not set")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{text} is in the home directory of nobody this machine knows; give its path"
        ) from error
