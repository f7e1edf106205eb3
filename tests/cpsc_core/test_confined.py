import argparse
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from cpsc_core import confined
from cpsc_core.confined import STATE_KEYS, plain_tensors, read_confined
from cpsc_core.errors import TeacherError


@pytest.fixture
def state() -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(0)
    return {"w": torch.randn(3, 4, generator=chance), "b": torch.randn(4, generator=chance)}


class Canary:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def assert_equal(tensors: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("legacy", [False, True])
def test_a_state_dict_is_read_in_either_format(state: dict[str, Tensor], legacy: bool) -> None:
    content = saved(OrderedDict(state), _use_new_zipfile_serialization=not legacy)

    assert_equal(plain_tensors(content), state)


@pytest.mark.parametrize("key", STATE_KEYS)
def test_weights_are_found_under_the_usual_keys(state: dict[str, Tensor], key: str) -> None:
    beside = {"epoch": 3, "best": 0.9, "optimizer": {"state": {}}, "args": argparse.Namespace(lr=0.1)}

    assert_equal(plain_tensors(saved(beside | {key: state})), state)
    assert_equal(plain_tensors(saved(beside | {key: beside | {"state_dict": state}})), state)


def test_tensors_that_share_memory_become_tensors_of_their_own() -> None:
    whole = torch.arange(6.0)

    tensors = plain_tensors(saved({"a": whole, "b": whole, "c": whole.view(2, 3).T}))

    assert safetensors.torch.load(safetensors.torch.save(tensors))["c"].tolist() == [[0, 3], [1, 4], [2, 5]]


def broken(canary: Path) -> dict[str, tuple[bytes, str]]:
    whole = saved({"w": torch.zeros(100)})
    archive, script = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as nested:
        nested.writestr("t.pt", whole)
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), script)
    loaded, held = "cannot be loaded as plain tensors", "holds no state dict"
    return {
        "empty": (b"", loaded),
        "truncated": (whole[: len(whole) // 2], loaded),
        "text": (b"hello\n", loaded),
        "a nested archive": (archive.getvalue(), loaded),
        "a script": (script.getvalue(), loaded),
        "a whole network": (saved(nn.Linear(2, 2)), r"save it again with torch\.save\(network"),
        "malicious": (saved({"a": Canary(canary)}), loaded),
        "malicious and bare": (pickle.dumps(Canary(canary)), loaded),
        "a list": (saved([1, 2]), held),
        "numbers": (saved({"state_dict": {"a": 1}}), held),
        "nothing": (saved({}), held),
        "without names": (saved({0: torch.zeros(1)}), held),
        "sparse": (saved({"a": torch.eye(2).to_sparse()}), held),
        "nested without end": (saved({"model": {"net": {"model": {"net": {"model": {}}}}}}), held),
    }


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_holds_no_weights_is_refused_and_nothing_in_it_runs(tmp_path: Path) -> None:
    for content, complaint in broken(tmp_path / "canary").values():
        with pytest.raises(TeacherError, match=complaint):
            plain_tensors(content)

    assert not (tmp_path / "canary").exists()


def test_the_confined_process_gives_back_the_tensors(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "t.pt"
    path.write_bytes(saved({"state_dict": state, "epoch": 3}))

    assert_equal(safetensors.torch.load(read_confined(path)), state)


def test_what_the_confined_process_refuses_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    path.write_bytes(saved({"a": Canary(tmp_path / "canary")}))

    with pytest.raises(
        TeacherError, match=r"evil\.pt cannot be loaded as plain tensors .*; where it came from"
    ):
        read_confined(path)

    assert not (tmp_path / "canary").exists()


ATTEMPTS = """
import json, os, socket, subprocess, sys
sys.path[:] = json.loads(sys.argv[1])
from cpsc_core import confined
confined._leave_the_net()
confined._limit(1000)

def tried(act):
    try:
        act()
        return "done"
    except MemoryError:
        return "MemoryError"
    except OSError as error:
        return type(error).__name__

def write():
    with open(sys.argv[2], "w") as file:
        file.write("x")

import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
print(json.dumps({
    "memory": tried(lambda: bytearray(3 << 30)),
    "file": tried(write),
    "network": tried(lambda: socket.create_connection(("127.0.0.1", int(sys.argv[3])), timeout=5)),
    "secret": os.environ.get("SECRET"),
}))
"""


def test_the_confined_process_has_no_memory_files_or_net_to_waste(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = [json.dumps(sys.path), str(tmp_path / "x"), str(server.getsockname()[1])]
        ran = subprocess.run(
            [sys.executable, "-I", "-c", ATTEMPTS, *arguments], capture_output=True, text=True, check=True
        )

    found = json.loads(ran.stdout)
    assert (found["memory"], found["file"]) == ("MemoryError", "OSError")
    assert (tmp_path / "x").read_text() == ""
    if _may_leave_the_net():
        assert found["network"] == "OSError"


def _may_leave_the_net() -> bool:
    asked = [
        sys.executable,
        "-c",
        "from cpsc_core import confined; confined._leave_the_net(); import os;"
        "print(os.readlink('/proc/self/ns/net'))",
    ]
    ran = subprocess.run(asked, capture_output=True, text=True, check=True)
    return ran.stdout.strip() != os.readlink("/proc/self/ns/net")  # noqa: PTH115


def test_a_file_that_takes_more_memory_than_its_size_explains_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.pt"
    content = saved({"w": torch.zeros(1 << 26)})  # 256 MB of zeros, deflated to next to nothing
    with (
        zipfile.ZipFile(io.BytesIO(content)) as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in plain.infolist():
            bomb.writestr(member.filename, plain.read(member))
    start = confined._START.replace(
        "main()", "import cpsc_core.confined as c; c._SPARE_BYTES = 1 << 26; main()"
    )
    monkeypatch.setattr(confined, "_START", start)

    with pytest.raises(TeacherError, match=r"bomb\.pt (took more memory|cannot be loaded)"):
        read_confined(path)
