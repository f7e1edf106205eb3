import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "experiments" / "benchmarks" / "step.py"
SMALL = (
    "--pairs wrn --variants plain fp32 --rounds 1 --threads 1 --batch-size 4 --size 16 --width 4 "
    "--generator-steps 1 --student-steps 1"
)


def test_both_loops_descend_the_same_losses_and_every_figure_is_written(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"

    subprocess.run([sys.executable, SCRIPT, *SMALL.split(), "--json", path], check=True, capture_output=True)

    plain, ours = json.loads(path.read_text())
    assert (plain["variant"], plain["ratio"], ours["variant"]) == ("plain", 1.0, "fp32")
    assert ours["generator_loss_difference"] < 1e-5
    assert ours["student_loss_difference"] < 1e-5
    for figures in (plain, ours):
        assert figures["pair"] == "wrn40_2 to wrn16_2"
        assert figures["image_steps_per_second"] == pytest.approx(8 / figures["seconds"])
        assert figures["share_of_peak"] > 0 and figures["peak_memory_bytes"] > 0
