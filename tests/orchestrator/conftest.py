"""What tests of the orchestrator share."""

from __future__ import annotations

import logging
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cluster.session import open_cluster
from orchestrator.store.address import BucketAddress
from tests.support.object_store import BUCKET, google_store, object_store


@pytest.fixture(scope="session")
def store_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which the session's object store is found."""
    with object_store(tmp_path_factory.mktemp("object-store")) as environment:
        yield environment


@pytest.fixture
def remote(
    store_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> BucketAddress:
    """The address of storage of this test's own, empty, on an object store on loopback."""
    for name, value in store_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    return BucketAddress.parse(f"s3://{BUCKET}/{uuid.uuid4().hex}")


@pytest.fixture(scope="session")
def google_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of the session's Google Cloud Storage."""
    with google_store(tmp_path_factory.mktemp("google-store")) as server:
        yield server


@pytest.fixture
def google(
    google_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> BucketAddress:
    """As `remote`, in a bucket of Google's kind."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    query = f"anonymous=true&endpoint_override={google_server}&scheme=http"
    return BucketAddress.parse(f"gs://{BUCKET}/{uuid.uuid4().hex}?{query}")


@pytest.fixture(params=["remote", "google"])
def anywhere(request: pytest.FixtureRequest) -> BucketAddress:
    """The address of storage of this test's own, in a bucket of either kind."""
    address: BucketAddress = request.getfixturevalue(request.param)
    return address


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A private Ray, started once for all tests that need one: its folder."""
    path = Path(tempfile.mkdtemp(prefix="cpsc-ray-"))
    with open_cluster(None, path):
        yield path
    logging.getLogger("ray").setLevel(logging.WARNING)
