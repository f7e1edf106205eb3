import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "experiments" / "benchmarks" / "controller_scale.py"


@pytest.mark.slow
def test_every_figure_of_a_sweep_and_of_bare_tune_is_written(tmp_path: Path) -> None:
    path = tmp_path / "scale.json"
    sizes = ["--sizes", "8", "20", "--fresh", "8", "--bare", "3", "--folder", str(tmp_path)]

    subprocess.run([sys.executable, SCRIPT, *sizes, "--json", path], check=True, capture_output=True)

    whole, topped_up, bare = json.loads(path.read_text())
    assert [(run["kind"], run["trials"]) for run in (whole, topped_up, bare)] == [
        ("ours", 8), ("ours", 20), ("bare", 3),
    ]  # fmt: skip
    for run in (whole, topped_up):
        assert run["per_trial_ms"].keys() >= {"scheduling", "suggestion", "commit", "wall"}
        assert all(value > 0 for key, value in run["per_trial_ms"].items() if key not in ("mirror", "views"))
        assert run["mirror_ms"] > 0
        assert run["resume_seconds"] > 0
        assert run["peak_memory_mb"] > 100
    assert bare["per_trial_ms"]["wall"] > 0
