"""Nothing in the code runs what a file says, starts a shell or guesses a free name, says its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("cpsc_core", "orchestrator", "experiments", "docker")

MODULES = {
    "_pickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "pickle", "pickle5",
    "ray.cloudpickle", "shelve", "telnetlib", "torch.hub", "torch.package",
}  # fmt: skip
"""Modules that run what they read, or fetch what they run."""
NAMES = {
    "__import__", "builtins.eval", "builtins.exec", "eval", "exec", "numpy.lib.format.read_array", "os.popen",
    "os.system", "pandas.read_pickle", "pty.spawn", "subprocess.getoutput", "subprocess.getstatusoutput",
    "tempfile.mktemp", "torch.jit.load", "yaml.FullLoader", "yaml.Loader", "yaml.UnsafeLoader",
    "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load", "yaml.unsafe_load_all",
}  # fmt: skip
"""What must not even be mentioned: who holds it can call it."""
ONLY_WITH: dict[str, tuple[str, set[str]]] = {
    "torch.load": ("weights_only", {"True"}),
    "yaml.load": ("Loader", {"yaml.SafeLoader", "yaml.CSafeLoader"}),
    "yaml.load_all": ("Loader", {"yaml.SafeLoader", "yaml.CSafeLoader"}),
}
"""What may be called with one of these values of an argument only."""
NEVER = {"shell": "False", "weights_only": "True", "allow_pickle": "False"}
"""The one value an argument of that name may have, whatever is called."""

EXCEPTIONS = {
    ("orchestrator/cluster/preflight.py", "ray.cloudpickle"): (
        "the probe goes to machines that have none of our code, pickled as Ray sends everything"
    ),
    ("orchestrator/trial/shipping.py", "ray.cloudpickle"): (
        "a reference into Ray's own store, handed by the controller to its drivers through Ray alone"
    ),
}
"""What is let pass, by file and name, and why."""


def dangers(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of everything in a source that must not be there."""
    tree = ast.parse(source)
    known = dict(_imported(tree))
    judged: set[ast.AST] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, name) for each in names if (name := _module(each.name)))
            case ast.ImportFrom(module=module, names=names) if module is not None and not node.level:
                for each in names:
                    full = f"{module}.{each.name}"
                    if name := _module(module) or _module(full) or (full if full in NAMES else None):
                        yield node.lineno, name
            case ast.Call(func=function, args=given, keywords=keywords):
                named = {each.arg: ast.unparse(each.value) for each in keywords}
                wrong = [key for key, only in NEVER.items() if named.get(key, only) != only]
                yield from ((node.lineno, f"{key}={named[key]}") for key in wrong)
                called = _name(function, known)
                if called in ONLY_WITH:
                    judged.add(function)
                    key, allowed = ONLY_WITH[called]
                    if not wrong and _resolved(named.get(key), known) not in allowed:
                        yield node.lineno, called
                elif called == "getattr" and len(given) > 1:
                    name = f"{_name(given[0], known)}.{getattr(given[1], 'value', '')}"
                    if name in NAMES or name in ONLY_WITH or _module(name):
                        yield node.lineno, name
            case ast.Name() | ast.Attribute() if node not in judged:
                name = _name(node, known)
                if name in NAMES or name in ONLY_WITH or name in MODULES:
                    yield node.lineno, name


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What the names of a source stand for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                yield (
                    each.asname or each.name.partition(".")[0],
                    each.name if each.asname else each.name.partition(".")[0],
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for each in node.names:
                yield each.asname or each.name, f"{node.module}.{each.name}"


def _name(node: ast.AST, known: dict[str, str]) -> str:
    match node:
        case ast.Name(id=name):
            return known.get(name, name)
        case ast.Attribute(value=value, attr=attribute):
            return f"{_name(value, known) or '?'}.{attribute}"
        case _:
            return ""


def _resolved(text: str | None, known: dict[str, str]) -> str:
    return "" if text is None else _name(ast.parse(text, mode="eval").body, known) or text


def _module(name: str) -> str | None:
    """The forbidden module that a name is, or lies in."""
    return next((each for each in MODULES if name == each or name.startswith(f"{each}.")), None)


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_has_nothing_dangerous_but_what_has_a_reason(path: Path) -> None:
    where = str(path.relative_to(ROOT))

    found = [
        (line, name)
        for line, name in dangers(path.read_text(encoding="utf-8"))
        if (where, name) not in EXCEPTIONS
    ]

    assert found == []


def test_every_exception_is_still_needed() -> None:
    needed = {
        (str(path.relative_to(ROOT)), name)
        for path in sources()
        for _, name in dangers(path.read_text(encoding="utf-8"))
    }

    assert EXCEPTIONS.keys() - needed == set()
    assert all(len(reason) > 20 for reason in EXCEPTIONS.values())


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import pickle", "pickle"),
        ("import pickle as p\np.loads(b'')", "pickle"),
        ("def f():\n    from pickle import loads", "pickle"),
        ("import cloudpickle.fast", "cloudpickle"),
        ("from ray import cloudpickle", "ray.cloudpickle"),
        ("import ray\nray.cloudpickle.loads(b'')", "ray.cloudpickle"),
        ("import joblib", "joblib"),
        ("from sklearn.utils import x\nimport dill", "dill"),
        ("import marshal", "marshal"),
        ("import shelve", "shelve"),
        ("from torch import hub", "torch.hub"),
        ("import torch\ntorch.hub.load('a', 'b')", "torch.hub"),
        ("import torch\ntorch.load('x')", "torch.load"),
        ("import torch\ntorch.load('x', weights_only=False)", "weights_only=False"),
        ("import torch\ntorch.load('x', weights_only=flag)", "weights_only=flag"),
        ("import torch as t\nt.load('x', None)", "torch.load"),
        ("from torch import load\nload('x')", "torch.load"),
        ("import torch\nread = torch.load", "torch.load"),
        ("import functools, torch\nfunctools.partial(torch.load, weights_only=True)", "torch.load"),
        ("import torch\ntorch.jit.load('x')", "torch.jit.load"),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", "allow_pickle=True"),
        ("import pandas\npandas.read_pickle('x')", "pandas.read_pickle"),
        ("import yaml\nyaml.load('x')", "yaml.load"),
        ("import yaml\nyaml.load('x', Loader=yaml.Loader)", "yaml.load"),
        ("import yaml\nyaml.load('x', Loader=yaml.FullLoader)", "yaml.FullLoader"),
        ("from yaml import unsafe_load", "yaml.unsafe_load"),
        ("import yaml\nyaml.full_load('x')", "yaml.full_load"),
        ("eval('1')", "eval"),
        ("list(map(eval, ['1']))", "eval"),
        ("import builtins\nbuiltins.exec('x')", "builtins.exec"),
        ("exec('x')", "exec"),
        ("__import__('os')", "__import__"),
        ("import os\nos.system('x')", "os.system"),
        ("from os import system as s\ns('x')", "os.system"),
        ("import os\ngetattr(os, 'system')('x')", "os.system"),
        ("import os\nos.popen('x')", "os.popen"),
        ("import subprocess\nsubprocess.run('x', shell=True)", "shell=True"),
        ("import subprocess\nsubprocess.Popen('x', shell=1)", "shell=1"),
        ("import subprocess\nsubprocess.getoutput('x')", "subprocess.getoutput"),
        ("import tempfile\ntempfile.mktemp()", "tempfile.mktemp"),
    ],
)
def test_what_is_dangerous_is_found(source: str, name: str) -> None:
    assert name in {found for _, found in dangers(source)}


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load('x', weights_only=True)",
        "import yaml\nyaml.load('x', Loader=yaml.SafeLoader)",
        "from yaml import SafeLoader, load\nload('x', Loader=SafeLoader)",
        "network.eval()",
        "import re\nre.compile('x')",
        "import subprocess\nsubprocess.run(['x'], shell=False)",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "import safetensors.torch\nsafetensors.torch.load(b'')",
        "import tempfile\ntempfile.mkdtemp()",
        "import json\njson.load(file)",
        "'pickle is refused'",
    ],
)
def test_what_is_harmless_is_let_pass(source: str) -> None:
    assert list(dangers(source)) == []
