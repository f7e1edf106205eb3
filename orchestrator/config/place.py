"""The field `storage`: a folder, or an address in a bucket."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import GetPydanticSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from orchestrator.config.data import LocalPath
from orchestrator.errors import UsageError
from orchestrator.store.address import BucketAddress, Storage, is_remote

__all__ = ["Place"]


def _read(raw: Any, as_folder: core_schema.ValidatorFunctionWrapHandler) -> Storage:
    if isinstance(raw, BucketAddress):
        return raw
    if not isinstance(raw, str) or not is_remote(raw):
        folder: Storage = as_folder(raw)
        return folder
    try:
        return BucketAddress.parse(raw)
    except UsageError as error:
        raise PydanticCustomError(
            "place",
            "must be a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, followed at most by ? and "
            "endpoint_override, region, scheme or anonymous, and credentials are left to the environment",
        ) from error


def _schema(_: Any, handler: Any) -> CoreSchema:
    text = core_schema.to_string_ser_schema()
    return core_schema.no_info_wrap_validator_function(_read, handler(LocalPath), serialization=text)


Place = Annotated[Storage, GetPydanticSchema(_schema)]
"""Where sweeps lie."""
