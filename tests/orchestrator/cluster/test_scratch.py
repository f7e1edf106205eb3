import os
import stat
import tempfile
from pathlib import Path

import pytest

from orchestrator.cluster.scratch import make_scratch, new_scratch, remove_scratch
from orchestrator.errors import UnreachableError


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


def test_a_scratch_folder_is_ones_own_whatever_the_umask() -> None:
    before = os.umask(0)
    try:
        make_scratch(scratch := new_scratch())
    finally:
        os.umask(before)

    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    assert new_scratch() != scratch
    make_scratch(scratch)


@pytest.mark.parametrize("mode", [0o701, 0o750, 0o777])
def test_a_folder_that_others_may_look_into_holds_no_token(mode: int) -> None:
    scratch = new_scratch()
    scratch.mkdir()
    scratch.chmod(mode)

    with pytest.raises(UnreachableError, match="open to others; remove it"):
        make_scratch(scratch)


def test_a_link_in_the_place_of_a_scratch_folder_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (scratch := new_scratch()).symlink_to(elsewhere)

    with pytest.raises(UnreachableError, match="somebody else's"):
        make_scratch(scratch)


def test_where_no_folder_can_be_made_another_place_is_advised(temporary: Path) -> None:
    (temporary / "file").touch()

    with pytest.raises(UnreachableError, match="set TMPDIR"):
        make_scratch(temporary / "file" / "x")


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
