import logging
from pathlib import Path

import pytest

from orchestrator.sweep.log import logging_to

LOGGER = logging.getLogger("somebody")


def test_what_libraries_say_goes_to_the_file_alone_while_the_block_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = logging.getLogger().handlers[:]

    with logging_to(tmp_path / "controller.log"):
        LOGGER.warning("careful")

    assert "WARNING somebody: careful" in (tmp_path / "controller.log").read_text()
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == before


def test_a_log_on_a_full_disk_bothers_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    with logging_to(Path("/dev/full")):
        try:
            raise ValueError("of a library")
        except ValueError:
            LOGGER.exception("careful")

    assert capfd.readouterr() == ("", "")


def test_a_record_that_is_wrong_itself_is_still_told_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path / "controller.log"):
        LOGGER.warning("%d", "no number")

    assert "Logging error" in capfd.readouterr().err
