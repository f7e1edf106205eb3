"""What torch computes on here, and in which precision it does so fastest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from orchestrator.doctor.check import Check, Verdict

__all__ = ["examine_compute"]

_PROBE = """
import json, time, torch

def seconds(dtype):
    maps = torch.randn(64, 64, 32, 32, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3, dtype=dtype)
    def once():
        began = time.perf_counter()
        torch.nn.functional.conv2d(maps, weight, padding=1)
        return time.perf_counter() - began
    return min(once() for _ in range(6))

devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
if devices:
    bf16 = {"bf16": torch.cuda.is_bf16_supported(including_emulation=False)}
else:
    bf16 = {"bf16_speed": seconds(torch.float32) / seconds(torch.bfloat16)}
found = {"version": torch.__version__, "cuda": torch.version.cuda, "devices": devices}
print(json.dumps(found | bf16 | {"threads": torch.get_num_threads()}))
"""
_SECONDS = 180
_DRIVER = Path("/proc/driver/nvidia/version")
_WORTH_IT = 1.1


def examine_compute() -> list[Check]:
    """Ask torch in a process of its own: importing it is slow, and a broken build can crash."""
    command = [sys.executable, "-c", _PROBE]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        finding = f"did not import within {_SECONDS} s"
    except subprocess.CalledProcessError as error:
        finding = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
    else:
        found = json.loads(answer.stdout.splitlines()[-1])
        return [_devices(found, has_driver=_DRIVER.exists()), _precision(found)]
    advice = "reinstall torch as https://pytorch.org/get-started says"
    return [Check(name="torch works", verdict=Verdict.FAIL, finding=finding, advice=advice)]


def _devices(found: dict[str, Any], *, has_driver: bool) -> Check:
    """What torch computes on; a GPU that it does not see is worth a word."""
    name, threads = "torch works", f"{found['threads']} threads"
    if found["devices"]:
        devices = ", ".join(found["devices"])
        return Check(name=name, verdict=Verdict.OK, finding=f"{devices}; CUDA {found['cuda']}; {threads}")
    if not has_driver:
        finding = f"no CUDA device, training runs on the CPU; {threads}"
        return Check(name=name, verdict=Verdict.OK, finding=finding)
    built = f"torch is built for CUDA {found['cuda']}" if found["cuda"] else "torch is built for the CPU"
    return Check(
        name=name,
        verdict=Verdict.WARN,
        finding=f"this machine has an NVIDIA driver, but torch sees no GPU: {built}; {threads}",
        advice="install the build of torch that fits the driver, see https://pytorch.org/get-started",
    )


def _precision(found: dict[str, Any]) -> Check:
    """Which train.precision is fast: among CPUs that know bf16 it may be twice as fast as fp32, or half."""
    if found["devices"]:
        fast = found["bf16"]
        finding = "the GPU computes in bf16" if fast else "the GPU does not compute in bf16"
        advice = f"`--set train.precision={'bf16' if fast else 'fp16'}` is the fast one"
    else:
        speed = found["bf16_speed"]
        finding = f"a bf16 convolution runs at {speed:.1f} times the speed of fp32 on this CPU"
        wish = "`--set train.precision=bf16` is the fast one" if speed >= _WORTH_IT else "stay with fp32"
        advice = wish
    return Check(name="precision", verdict=Verdict.OK, finding=finding, advice=advice)
