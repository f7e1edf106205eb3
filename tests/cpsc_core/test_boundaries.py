"""What a module may not drag in, seen from a fresh process."""

import subprocess
import sys

TORCH_FREE = [
    "cpsc_core.attempt",
    "cpsc_core.card",
    "cpsc_core.data.digits",
    "cpsc_core.data.labelled",
    "cpsc_core.distill.presets",
    "cpsc_core.images",
    "cpsc_core.networks.offered",
    "cpsc_core.seeds",
    "cpsc_core.settings",
    "cpsc_core.tables",
]


def modules_after(code: str) -> set[str]:
    listing = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(listing.stdout.split())


def test_what_the_controller_reads_needs_no_torch() -> None:
    found = modules_after(f"import {', '.join(TORCH_FREE)}")

    assert set(TORCH_FREE) <= found
    assert "torch" not in found


def test_distillation_reaches_no_data_set() -> None:
    code = """
import importlib, pkgutil, cpsc_core.distill
for module in pkgutil.walk_packages(cpsc_core.distill.__path__, "cpsc_core.distill."):
    importlib.import_module(module.name)
"""
    found = modules_after(code)

    assert "cpsc_core.distill.trainer" in found
    assert not {name for name in found if name.startswith("cpsc_core.data")}
    assert not {"sklearn", "torchvision", "PIL", "pyarrow"} & found
