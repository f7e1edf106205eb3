import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "experiments" / "benchmarks" / "presets.py"
SMALL = ["--seeds", "1", "--epochs", "1", "--iterations", "1", "--teacher-epochs", "1"]


@pytest.mark.parametrize(
    ("options", "some"),
    [
        (["--contestants", "faithful", "untrained generator"], {"faithful", "untrained generator"}),
        pytest.param(
            ["--ablation"],
            {"strong", "strong without label input", "fixed with relative statistics"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_contestant_has_its_figures_in_the_table_and_in_the_file(
    tmp_path: Path, options: list[str], some: set[str]
) -> None:
    path = tmp_path / "figures.json"
    command = [sys.executable, str(SCRIPT), *SMALL, *options, "--json", str(path)]

    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    runs = json.loads(path.read_text())
    names = [each["contestant"] for each in runs]
    assert len(set(names)) == len(names) and some <= set(names)
    for each in runs:
        assert 0 <= each["fidelity"] <= 1 and each["last"] == each["best"] == each["mean_of_last"]
        assert each["diversity"] > 0 and each["seconds"] > 0
        assert f"{each['diversity']:.3f}" in printed
