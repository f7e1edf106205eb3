import pytest

from cpsc_core.settings import TeacherSettings
from tests.support.trials import tiny_teacher


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> TeacherSettings:
    return tiny_teacher(tmp_path_factory.mktemp("teacher"))
