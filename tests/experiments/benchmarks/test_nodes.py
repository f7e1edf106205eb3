import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "experiments" / "benchmarks" / "nodes.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_figure_of_ranks_and_machines_is_written(tmp_path: Path) -> None:
    path = tmp_path / "nodes.json"
    sizes = ["--rounds", "1", "--kills", "1", "--trials", "12"]

    done = subprocess.run(
        [sys.executable, SCRIPT, *sizes, "--json", path], check=True, capture_output=True, text=True
    )

    found = json.loads(path.read_text())
    assert found["ranks"].keys() == {"one rank, two threads", "two ranks, one thread"}
    for kind in ("controller", "wall"):
        assert found[kind].keys() == {"one machine", "three machines"}
    (kill,) = zip(*found["loss"].values(), strict=True)
    assert 0 < kill[0] <= kill[1] < kill[2]
    assert "loss: seconds after the kill" in done.stdout
