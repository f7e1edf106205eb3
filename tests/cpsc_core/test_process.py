import logging
import os
from pathlib import Path

import pytest
import torch

from cpsc_core.attempt import write_json
from cpsc_core.errors import SettingsError
from cpsc_core.process import describe_process, logging_to, using_threads, warn_of_drift


def test_threads_are_as_they_were_after_the_block() -> None:
    before = torch.get_num_threads()

    with pytest.raises(RuntimeError), using_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError

    assert torch.get_num_threads() == before


def test_what_the_core_logs_inside_the_block_is_in_the_file(tmp_path: Path) -> None:
    logger = logging.getLogger("cpsc_core.anything")
    logger.info("before")

    with logging_to(tmp_path / "log.txt"):
        logger.info("inside")
    logger.warning("after")

    assert [line.split(" ", 2)[2] for line in (tmp_path / "log.txt").read_text().splitlines()] == [
        "INFO cpsc_core.anything: inside"
    ]


def test_an_error_is_in_the_file_with_its_trace(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), logging_to(tmp_path / "log.txt"):
        _ = 1 / 0

    text = (tmp_path / "log.txt").read_text()
    assert "ERROR" in text
    assert "test_process.py" in text
    assert "ZeroDivisionError" in text


def test_nothing_stays_attached(tmp_path: Path) -> None:
    core = logging.getLogger("cpsc_core")
    before = (list(core.handlers), core.level)

    with pytest.raises(RuntimeError), logging_to(tmp_path / "log.txt"):
        raise RuntimeError

    assert (core.handlers, core.level) == before


@pytest.mark.parametrize("device", ["cuda:99", "abacus", "mps"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(SettingsError, match=f"{device}.*use cpu"):
        describe_process(device)


def test_a_change_that_may_change_numbers_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = describe_process("cpu")
    write_json(tmp_path / "process.json", now | {"threads": 7, "pid": 1})

    warn_of_drift(tmp_path / "process.json", now)

    (record,) = caplog.records
    assert record.getMessage().startswith(f"threads was 7 and is now {now['threads']}: ")


@pytest.mark.parametrize("content", [None, "{"])
def test_a_process_that_left_no_description_is_no_drift(
    tmp_path: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    if content is not None:
        (tmp_path / "process.json").write_text(content)

    warn_of_drift(tmp_path / "process.json", describe_process("cpu"))

    assert not caplog.records


def test_a_process_is_described_by_what_decides_its_numbers() -> None:
    found = describe_process("cpu")

    assert found["pid"] == os.getpid()
    assert found["threads"] == torch.get_num_threads()
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["versions"]["torch"] == torch.__version__
