import tempfile
from pathlib import Path

import pytest

from orchestrator.scratch import new_scratch, remove_scratch


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def test_a_scratch_folder_is_removed_with_all_that_is_in_it() -> None:
    scratch = new_scratch()
    (scratch / "session").mkdir(parents=True)

    remove_scratch(scratch)

    assert not scratch.exists()


def test_nothing_else_is_ever_removed_whatever_a_lease_says(tmp_path: Path, temporary: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (temporary / "other").mkdir()
    (temporary / "cpsc-ray-link").symlink_to(precious)

    for path in (
        precious,
        temporary / "other",
        temporary / "cpsc-ray-link",
        temporary / "cpsc-ray-x/../../precious",
    ):
        remove_scratch(path)

    assert precious.is_dir()
    assert (temporary / "other").is_dir()
    assert (temporary / "cpsc-ray-link").is_symlink()
