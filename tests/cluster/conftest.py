import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import EXPERIMENT, command


@pytest.fixture(scope="session")
def keep_teacher(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """Puts the teacher of the experiment into a storage folder: it is made once, which takes longest."""
    made = tmp_path_factory.mktemp("made")
    (made / "tiny.yaml").write_text(EXPERIMENT)
    command("teacher", made / "tiny.yaml", "--storage", made / "runs")

    def keep(storage: Path) -> None:
        shutil.copytree(made / "runs" / "teachers", storage / "teachers")

    return keep
