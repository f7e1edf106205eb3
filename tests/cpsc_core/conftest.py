from collections.abc import Iterator

import pytest

from cpsc_core.process import using_threads
from cpsc_core.settings import TeacherSettings
from tests.support.trials import tiny_teacher


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> TeacherSettings:
    return tiny_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    with using_threads(1):
        yield
