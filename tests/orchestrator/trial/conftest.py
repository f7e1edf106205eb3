import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpsc_core.settings import TeacherSettings
from orchestrator.cluster import open_cluster
from tests.support.trials import tiny_teacher


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> TeacherSettings:
    return tiny_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A private Ray, started once for all tests that need one."""
    path = Path(tempfile.mkdtemp(prefix="cpsc-ray-"))
    with open_cluster(None, path):
        yield path
    logging.getLogger("ray").setLevel(logging.WARNING)
