"""What every test runs under."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

SHARED_MEMORY = Path("/dev/shm")
NEEDED_BYTES = 2 * 1024**3

# Ray reads this once in a process, when it is imported: a test may do that before the product does.
os.environ["RAY_AUTH_MODE"] = "token"


def pytest_configure(config: pytest.Config) -> None:
    """Temporary folders in memory, where there is room: the records of a sweep are synced one by one."""
    usable = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK)
    if config.option.basetemp is None and usable and shutil.disk_usage(SHARED_MEMORY).free > NEEDED_BYTES:
        config.option.basetemp = tempfile.mkdtemp(prefix="cpsc-tests-", dir=SHARED_MEMORY)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Memory is given back."""
    if str(config.option.basetemp or "").startswith(str(SHARED_MEMORY / "cpsc-tests-")):
        shutil.rmtree(config.option.basetemp, ignore_errors=True)
