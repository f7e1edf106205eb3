"""Every crash point of the commit path, by killing a process at each of its writing system calls."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.crash_points import STRACE


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
@pytest.mark.parametrize(("work", "least"), [("controller", 100), ("trial", 60)])
def test_wherever_a_process_dies_or_its_disk_fails_it_can_be_gone_on_with(
    tmp_path: Path, work: str, least: int
) -> None:
    command = [sys.executable, "-m", "tests.chaos.crash_points", work, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if "strace cannot attach" in done.stderr:
        pytest.skip("strace may not attach to a process here")
    assert done.returncode == 0, done.stderr[-2000:]

    outcome = json.loads(done.stdout.splitlines()[-1])

    assert outcome["wrong"] == []
    assert outcome["tried"]["killed"] >= least
    assert outcome["struck"]["killed"] == outcome["tried"]["killed"]
    assert outcome["struck"]["broken"] == outcome["tried"]["broken"]
