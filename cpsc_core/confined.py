"""Files that others made with `torch.save`, opened in a process that can do nothing but give tensors back.

Such a file is a program. torch runs only a harmless part of it (`weights_only`), and a file that needs more
is refused, never opened another way. Should torch be mistaken, the process it runs in cannot write a file,
start a program, reach the net where the system lets that be forbidden, or take more memory than such a file
should need, and has none of the user's environment. What it returns is read as safetensors: tensors and
nothing else.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpsc_core.errors import TeacherError

__all__ = ["main", "read_confined"]

STATE_KEYS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "teacher",
    "weights",
    "params",
)
"""Under one of these a training checkpoint has its weights; the first that is there counts."""

_REFUSED = 3
_DEEPEST = 3
_PATIENCE_SECONDS = 600
_SPARE_BYTES = 1 << 30
_COPIES = 4
_FILES = 64
_NEW_USER_AND_NET = 0x10000000 | 0x40000000
_NO_NEW_PRIVILEGES = 38
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from cpsc_core.confined import main; main()"
)
_KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH", "PATH", "SYSTEMROOT")


def read_confined(path: Path) -> bytes:
    """The state dict in a file as safetensors; TeacherError if it holds none or is more than data."""
    environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    places = [os.path.abspath(place) for place in sys.path]  # noqa: PTH100
    try:
        with path.open("rb") as file:
            ran = subprocess.run(
                [sys.executable, "-I", "-W", "ignore", "-c", _START, json.dumps(places)],
                stdin=file,
                capture_output=True,
                env=environment | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
                timeout=_PATIENCE_SECONDS,
                check=False,
            )
    except OSError as error:
        raise TeacherError(
            f"the weights file {path} cannot be read: {error.strerror}; check the path and its permissions"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise TeacherError(f"{path} {_TOO_MUCH.format('time')}") from error
    if ran.returncode == 0:
        return ran.stdout
    if ran.returncode == _REFUSED:
        raise TeacherError(f"{path} {ran.stderr.decode(errors='replace').strip()}")
    raise TeacherError(f"{path} {_TOO_MUCH.format('time or memory')} (exit {ran.returncode})")


_TOO_MUCH = "took more {} to open, as no weights file should; save it again as safetensors where it came from"


def main() -> None:
    """What the confined process does: the file from standard input, safetensors to standard output."""
    _leave_the_net()
    import safetensors.torch
    import torch

    torch.set_num_threads(1)
    content = sys.stdin.buffer.read()
    _limit(len(content))
    try:
        tensors = plain_tensors(content)
        sys.stdout.buffer.write(safetensors.torch.save(tensors))
        sys.stdout.buffer.flush()
    except TeacherError as error:
        sys.stderr.write(f"{error}\n")
        os._exit(_REFUSED)
    except MemoryError:
        sys.stderr.write(_TOO_MUCH.format("memory") + "\n")
        os._exit(_REFUSED)


def plain_tensors(content: bytes) -> dict[str, Any]:
    """The state dict in what `torch.save` wrote, on the CPU and each tensor by itself.

    Raises TeacherError with what comes after the file's name.
    """
    import argparse

    import torch

    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # options, beside the weights
            loaded: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # whatever a hostile or broken file provokes, it is the file that is wrong
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TeacherError(
            f"cannot be loaded as plain tensors ({reason}); where it came from, save it again with "
            "torch.save(network.state_dict(), path) or as safetensors"
        ) from error
    state = _state_dict(loaded)
    if state is None:
        raise TeacherError(
            "holds no state dict: it should be a dictionary of tensors, or have one under "
            f"{', '.join(STATE_KEYS)}"
        )
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


def _state_dict(loaded: Any, depth: int = 0) -> Mapping[str, Any] | None:
    if not isinstance(loaded, Mapping) or depth > _DEEPEST:
        return None
    inner = next((loaded[key] for key in STATE_KEYS if isinstance(loaded.get(key), Mapping)), None)
    if inner is not None:
        return _state_dict(inner, depth + 1)
    return loaded if loaded and all(_is_entry(*each) for each in loaded.items()) else None


def _is_entry(name: object, tensor: object) -> bool:
    import torch

    if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
        return False
    return tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized


def _leave_the_net() -> None:
    """Go where there is no network and no way to more rights; some systems do not let one."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_NEW_USER_AND_NET) == 0:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            Path(f"/proc/self/{name}").write_text(text, encoding="ascii")


def _limit(size: int) -> None:
    """No more memory than copies of the file need, no file written, few opened, no process started."""
    used = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        if line.startswith("VmData:")
    )
    limits = {
        resource.RLIMIT_DATA: used + _COPIES * size + _SPARE_BYTES,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: _FILES,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CPU: _PATIENCE_SECONDS,
    }
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))
