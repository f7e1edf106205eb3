"""Everything that needs a GPU, in one table: the tests marked `gpu`, then the step benchmark.

    python experiments/benchmarks/gpu_check.py

Ends with 1 if a test failed, with 2 if there is no GPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import torch
from rich.console import Console
from rich.table import Table

STEP = Path(__file__).parent / "step.py"
ROOT = Path(__file__).parents[2]


def main() -> int:
    if not torch.cuda.is_available():
        print("gpu-check needs a CUDA device, and torch finds none; run it on a machine that has one")
        return 2
    table = Table("check", "result", title=f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        code = _run_tests(table, Path(folder) / "tests.xml")
        _run_steps(table, Path(folder) / "figures.json")
    Console(width=110).print(table)
    return code


def _run_tests(table: Table, report: Path) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", f"--junitxml={report}"]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314  pytest wrote it just now
        outcome = next(
            (child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed"
        )
        table.add_row(case.attrib["name"].replace("_", " "), outcome)
    return int(code != 0)


def _run_steps(table: Table, figures: Path) -> None:
    subprocess.run([sys.executable, STEP, "--device", "cuda", "--json", figures], check=True)
    for each in json.loads(figures.read_text()):
        speed = f"{each['image_steps_per_second']:,.0f} image-steps/s, ratio {each['ratio']:.2f}"
        memory = f"{each['peak_memory_bytes'] / 2**20:,.0f} MiB, {each['share_of_peak']:.0%} of peak"
        table.add_row(f"{each['pair']}, {each['variant']}", f"{speed}, {memory}")


if __name__ == "__main__":
    sys.exit(main())
