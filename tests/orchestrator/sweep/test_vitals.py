import subprocess
import sys
import time

import pytest

from orchestrator.errors import UnreachableError
from orchestrator.sweep.vitals import Vitals

CAUGHT = """
import time
from orchestrator.sweep.vitals import Vitals
with Vitals(lambda: {"gcs_server"}, "go on with `x`", grace_seconds=0.1):
    time.sleep(60)
"""


def test_while_all_is_well_nothing_is_refused() -> None:
    with Vitals(set, "go on") as vitals:
        vitals.refuse_death()


def test_what_is_lost_is_named_with_the_way_on() -> None:
    with (
        Vitals(lambda: {"raylet", "gcs_server"}, "go on with `x`") as vitals,
        pytest.raises(UnreachableError, match=r"lost its gcs_server and raylet, .*; go on with `x`"),
    ):
        vitals.refuse_death()


def test_a_command_that_is_caught_in_a_call_ends_all_the_same() -> None:
    began = time.monotonic()

    done = subprocess.run([sys.executable, "-c", CAUGHT], capture_output=True, text=True, check=False)

    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("error: Ray on this machine has lost its gcs_server")
    assert time.monotonic() - began < 30.0
