import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "experiments" / "benchmarks" / "turnaround.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_way_to_run_trials_is_timed_in_one_round(tmp_path: Path) -> None:
    path = tmp_path / "turnaround.json"

    subprocess.run([sys.executable, SCRIPT, "--rounds", "1", "--json", path], check=True, capture_output=True)

    found = json.loads(path.read_text())
    assert found["medians"].keys() == found["seconds"].keys() == {
        "ours, 1 rank",
        "ours, 2 ranks",
        "nested TorchTrainer, as documented",
        "nested TorchTrainer, 0.2 s",
        "bare function",
    }  # fmt: skip
    assert found["medians"]["ours, 1 rank"] < found["medians"]["nested TorchTrainer, as documented"]
