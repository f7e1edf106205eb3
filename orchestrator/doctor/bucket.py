"""Whether a bucket keeps what sweeps write into it, and knows what time it is."""

from __future__ import annotations

import secrets

from orchestrator.doctor.check import Check, Verdict
from orchestrator.errors import UnreachableError
from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket

__all__ = ["examine_bucket"]


def examine_bucket(address: BucketAddress) -> Check:
    """Write an object, meet it in a list, read it and remove it again, as a sweep does all the time."""
    bucket = Bucket(address, pauses=(0.5,))
    key, content = f"doctor-{secrets.token_hex(8)}", secrets.token_bytes(16)
    advice = "check address, network and credentials; a sweep must be allowed to list, read, write and remove"
    try:
        if not bucket.is_there():
            finding = f"there is no bucket {address.bucket}"
            return Check(name="storage", verdict=Verdict.FAIL, finding=finding, advice=advice, code=3)
        bucket.write(key, content)
        listed, read = bucket.objects().get(key), bucket.read(key)
        bucket.delete(key)
    except UnreachableError as error:
        finding = str(error).partition("; ")[0]
        return Check(name="storage", verdict=Verdict.FAIL, finding=finding, advice=advice, code=3)
    if listed is None or not listed.modified or read != content:
        finding = f"{address} does not show at once what was written to it"
        advice = "use a store that is consistent, as S3, GCS and MinIO are"
        return Check(name="storage", verdict=Verdict.FAIL, finding=finding, advice=advice, code=3)
    return Check(name="storage", verdict=Verdict.OK, finding=str(address))
