from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.doctor import compute
from orchestrator.doctor.check import Check, Verdict
from orchestrator.doctor.compute import examine_compute

ON_A_CPU = {"version": "2.14.1", "cuda": None, "devices": [], "threads": 2, "bf16_speed": 1.96}
ON_A_GPU = {"version": "2.14.1", "cuda": "13.0", "devices": ["H200", "H200"], "threads": 8, "bf16": True}


@pytest.fixture
def torch_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Let the process that asks torch answer at once, or fail, on a machine without an NVIDIA driver."""
    monkeypatch.setattr(compute, "_DRIVER", tmp_path / "no driver")

    def says(answer: dict[str, Any] | Exception) -> dict[str, Check]:
        def run(command: list[str], **_: Any) -> SimpleNamespace:
            assert command[:2] == [sys.executable, "-c"]
            if isinstance(answer, Exception):
                raise answer
            return SimpleNamespace(stdout=f"a banner\n{json.dumps(answer)}\n")

        monkeypatch.setattr(compute.subprocess, "run", run)
        return {check.name: check for check in examine_compute()}

    return says


@pytest.mark.parametrize(
    "answer",
    [
        subprocess.TimeoutExpired("python", 180),
        subprocess.CalledProcessError(-11, "python", stderr=""),
        subprocess.CalledProcessError(1, "python", stderr="Traceback\nImportError: libcudart.so.12"),
    ],
)
def test_a_torch_that_does_not_import_is_told_without_a_trace(torch_says: Any, answer: Exception) -> None:
    (check,) = torch_says(answer).values()

    assert (check.name, check.verdict, check.code) == ("torch works", Verdict.FAIL, 2)
    assert "\n" not in check.finding


def test_a_gpu_that_torch_does_not_see_is_worth_a_word(
    torch_says: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compute, "_DRIVER", tmp_path)

    check = torch_says(ON_A_CPU)["torch works"]

    assert check.verdict is Verdict.WARN
    assert "torch is built for the CPU" in check.finding


def test_the_gpus_are_named(torch_says: Any) -> None:
    assert torch_says(ON_A_GPU)["torch works"].finding == "H200, H200; CUDA 13.0; 8 threads"


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (ON_A_CPU, "train.precision=bf16"),
        (ON_A_CPU | {"bf16_speed": 0.55}, "stay with fp32"),
        (ON_A_GPU, "train.precision=bf16"),
        (ON_A_GPU | {"bf16": False}, "train.precision=fp16"),
    ],
)
def test_the_precision_that_is_fast_here_is_named(
    torch_says: Any, answer: dict[str, Any], advice: str
) -> None:
    check = torch_says(answer)["precision"]

    assert check.verdict is Verdict.OK
    assert advice in (check.advice or "")


@pytest.mark.slow
def test_torch_is_really_asked() -> None:
    torch_works, precision = examine_compute()

    assert "threads" in torch_works.finding
    assert "bf16" in precision.finding
