"""Experiment files that somebody has damaged: in their text, in their tree, or in their bytes.

A file is a function of a seed and a number, so that one that is found can be had again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from orchestrator.config import load_experiment, parse_experiment
from tests.support.command import EXPERIMENT

__all__ = ["Case", "case"]

EVERYTHING = """\
name: everything
data: {name: parquet, root: ~/birds, size: 64, classes: [crow, owl, wren], flips: false, train: "train-*",
  test: test, image: image, label: label, normalization: {mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2]}}
teacher: {arch: resnet34, expected_accuracy: 0.9, train: {epochs: 3, precision: bf16}}
student: {arch: resnet18}
train: {epochs: 30, batch_size: 64, preset: strong, recompute: true, precision: bf16}
search:
  method: {choices: [cpsc]}
  student.arch: {choices: [resnet8, resnet20]}
  loss.ikd: {low: 0.05, high: 5, log: true, when: {method: cpsc}}
  loss.batch_norm: {low: 0.1, high: 1, step: 0.1, when: {student.arch: [resnet8]}}
  generator.steps: {low: 1, high: 8, step: 1}
sampler: {name: tpe, seed: 3, options: {n_startup_trials: 12, multivariate: true, group: true}}
objective: [{metric: val_accuracy, of: mean5}, {metric: latency, direction: minimize}]
prune_on: val_accuracy
pruner: {name: patient, patience: 3, wraps: {name: hyperband, min_epochs: 2}}
constraints: [peak_memory_gb <= 10, student_parameters <= 300000]
budget: {trials: 64, hours: 48, gpu_hours: 400, plateau: {trials: 30, min_delta: 0.001}}
confirm: {top: 3, seeds: 5}
resources: {workers: 2, gpus_per_worker: 1, cpus_per_worker: 4}
retry: {infrastructure: 5, out_of_memory: 1, hang: 2, diverged: 0, error: 0}
hang: {seconds: 120}
start_from: [earlier, ~/runs/other]
enqueue: [{method: cpsc, loss.ikd: 1.0}]
optuna_storage: sqlite:////runs/optuna.db
storage: ~/cpsc-runs
tracking: {uri: "https://mlflow.example", register_best: false}
notify: {url: "https://hooks.example/${env:HOME}"}
"""
"""An experiment with every block there is."""

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FILES = [EXPERIMENT, EVERYTHING, (EXPERIMENTS / "digits.yaml").read_text(encoding="utf-8")]
WHOLE = [parse_experiment(text).text for text in FILES]
WHOLE += [
    load_experiment(path, ["teacher.checkpoint=null"]).text for path in sorted(EXPERIMENTS.glob("*.yaml"))
]
CORPUS = [*FILES, *WHOLE]
TREES = [yaml.safe_load(text) for text in CORPUS]

Tree = Any
Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Case:
    """One file, and what is given beside it."""

    data: bytes
    """What the file holds."""
    overrides: tuple[str, ...] = ()
    """Arguments of --set."""


def case(seed: int, number: int) -> Case:
    """The file of a number, the same for the same seed."""
    chance = random.Random(f"{seed}:{number}")
    index = chance.randrange(len(CORPUS))
    kind = chance.choices(("tree", "text", "both", "set"), (6, 3, 1, 2))[0]
    if kind == "set":
        return Case(CORPUS[index].encode(), tuple(_override(chance) for _ in range(chance.choice((1, 1, 3)))))
    text = CORPUS[index]
    if kind in ("tree", "both"):
        tree = json.loads(json.dumps(TREES[index], default=str))
        for _ in range(chance.choice((1, 1, 1, 1, 2, 3, 8))):
            tree = chance.choice(TREE_CHANGES)(tree, chance)
        text = _written(tree, chance)
    if kind in ("text", "both"):
        for _ in range(chance.choice((1, 1, 1, 1, 2, 3, 8))):
            text = chance.choice(TEXT_CHANGES)(text, chance)
    data = text.encode("utf-8", "surrogatepass")
    if chance.random() < 0.05:
        data = chance.choice(BYTE_CHANGES)(data, chance)
    return Case(data)


# Values that somebody may write where another one belongs.

WORDS = (
    "", " ", "~", "null", "true", "yes", "on", "no", ".nan", "-.inf", ".inf", "nan", "inf", "1_000", "0x1F",
    "0o17", "012", "12:30:45", "2025-01-31", "1e-3", "1e400", "-1e400", "1e-400", "=", "<<", "-", "--", "---",
    "...", "?", ":", "#", "&a", "*a", "!!python/object/apply:os.system ['true']", "!!binary aGk=",
    "!!set {a}",
    "|", ">", "'", '"', "`", "@", "%YAML 9.9", "%TAG ! tag:x,2000:", "{", "}", "[", "]", "{}", "[]", "[[]]",
    "../x", "/etc/passwd", "a/../../b", "..", ".", "~", "~nobody/x", "/dev/zero", "/dev/stdin",
    "/proc/self/mem",
    "C:\\x", "CON", "-rf", "$(touch owned)", "`touch owned`", ";touch owned", "|touch owned", "file:///etc",
    "s3://b/k", "http://127.0.0.1:1/", "https://me:hunter2@h/", "sqlite:////tmp/x.db", "${env:HOME}",
    "${env:",
    "${env:NOT_SET}", "${HOME}", "%s%n", "{0}", "{0.__class__}", "<script>alert(1)</script>", "x" * 300,
    "\u202etxt", "\u200b", "ﬁ", "e\u0301", "İ", "\U0001f600", "\ufeff", "\ufffe", "\x85", "\u2028",
    "\x7f", "\xa0",
    "digits", "cifar10", "parquet", "imagefolder", "resnet8", "resnet34", "vgg11", "timm/resnet18", "timm/",
    "tpe", "gp", "grid", "qmc", "nsgaii", "patient", "hyperband", "median", "cpsc", "faithful",
    "val_accuracy",
    "latency <= 1", "peak_memory_gb <= 1e309", "latency <= ", "maximize", "loss.ikd", "student.arch", "auto",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 3, 7, 10, 32, 100, 1024, 100_000, 100_001, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1,
    2**63, -(2**63),
    10**18, 10**30, -(10**30), 10**400, 0.0, -0.0, 0.1, 0.5, 1.0, 1e-9, 5e-324, 1e308, -1e308, 1e-300, 1e18,
    float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
KEYS = (
    "name", "low", "high", "log", "step", "choices", "when", "extends", "password", "api_key", "<<", "",
    " ", "a b",
    "a.b", "a:b", "__class__", "__proto__", "null", "1", "uri", "options", "wraps", "metric", "method",
    "data",
    "model_config", "model_fields", "model_dump", "schema", "json", "copy", "<name>", "<tpe>",
    "x" * 300, "\u202e",
    "\U0001f600", "loss", "loss.ikd", "loss.x", "train.loss.ikd", "student.arch", "method.x", "epochs",
    "seed",
)  # fmt: skip


def _value(chance: random.Random, depth: int = 0) -> Tree:
    kind = chance.random()
    if kind < 0.35:
        return chance.choice(WORDS)
    if kind < 0.65:
        return chance.choice(NUMBERS)
    if kind < 0.75:
        return chance.choice((True, False, None))
    if kind < 0.85 or depth > 3:
        return _subtree(chance.choice(TREES), chance)
    if kind < 0.92:
        return [_value(chance, depth + 1) for _ in range(chance.choice((0, 1, 2, 5)))]
    return {_key(chance): _value(chance, depth + 1) for _ in range(chance.choice((0, 1, 2, 5)))}


def _key(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return chance.choice(KEYS)
    return str(chance.choice([keys[-1] for keys in _ways(chance.choice(TREES)) if keys]))


def _override(chance: random.Random) -> str:
    way = chance.choice(_ways(chance.choice(TREES)))
    path = ".".join(map(str, way)) if chance.random() < 0.7 else f"{_key(chance)}.{_key(chance)}"
    value = _value(chance)
    text = value if isinstance(value, str) else _flow(value)
    return f"{path}{chance.choice(('=', '=', '=', '=', '', ' = ', '=='))}{text}".replace("\0", "")


# Changes of the tree: everything stays YAML, and nothing may be what it should be.


def _ways(tree: Tree, keys: Keys = ()) -> list[Keys]:
    """The ways to everything in a tree, the tree itself first."""
    found = [keys]
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, inner in entries:
        found += _ways(inner, (*keys, key))
    return found


def _subtree(tree: Tree, chance: random.Random) -> Tree:
    return json.loads(json.dumps(_at(tree, chance.choice(_ways(tree))), default=str))


def _changed(tree: Tree, keys: Keys, change: Callable[[Tree], Tree]) -> Tree:
    """A tree with what lies at the end of a way replaced."""
    if not keys:
        return change(tree)
    tree[keys[0]] = _changed(tree[keys[0]], keys[1:], change)
    return tree


def _replace(tree: Tree, chance: random.Random) -> Tree:
    return _changed(tree, chance.choice(_ways(tree)), lambda _: _value(chance))


def _nudge(tree: Tree, chance: random.Random) -> Tree:
    """Another value of the same kind: it passes the types and meets the checks behind them."""
    ways = [keys for keys in _ways(tree) if keys and not isinstance(_at(tree, keys), dict | list)]
    return _changed(tree, chance.choice(ways), lambda value: _neighbour(value, chance)) if ways else tree


def _neighbour(value: Tree, chance: random.Random) -> Tree:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return chance.choice((value + 1, value - 1, value * 2, -value, value * 1000, value // 2, 0, 0.5))
    if isinstance(value, float):
        return chance.choice((value + 1, value - 1, value * 2, -value, value * 1000, value / 2, 0.0, 7))
    return chance.choice(_texts())


@cache
def _texts() -> list[str]:
    """Every text that is a value somewhere."""
    every = [_at(tree, keys) for tree in TREES for keys in _ways(tree)]
    return [each for each in every if isinstance(each, str)]


def _at(tree: Tree, keys: Keys) -> Tree:
    for key in keys:
        tree = tree[key]
    return tree


def _remove(tree: Tree, chance: random.Random) -> Tree:
    if not (ways := _ways(tree)[1:]):
        return tree
    *way, last = chance.choice(ways)

    def without(inner: Tree) -> Tree:
        del inner[last]
        return inner

    return _changed(tree, tuple(way), without)


def _rename(tree: Tree, chance: random.Random) -> Tree:
    if not (ways := [keys for keys in _ways(tree) if keys and isinstance(keys[-1], str)]):
        return tree
    *way, old = chance.choice(ways)
    new = _misspelt(str(old), chance) if chance.random() < 0.5 else _key(chance)
    return _changed(tree, tuple(way), lambda inner: {new if k == old else k: v for k, v in inner.items()})


def _misspelt(word: str, chance: random.Random) -> str:
    letters = list(word) or ["x"]
    where = chance.randrange(len(letters))
    letters[where : where + chance.randint(0, 1)] = chance.choice(
        ("", "x", letters[where] * 2, ".", "A", "é")
    )
    return "".join(letters)


def _add(tree: Tree, chance: random.Random) -> Tree:
    def with_more(inner: Tree) -> Tree:
        if isinstance(inner, dict):
            return inner | {_key(chance): _value(chance)}
        return [*inner, _value(chance)] if isinstance(inner, list) else [inner, _value(chance)]

    return _changed(tree, chance.choice(_ways(tree)), with_more)


def _wrap(tree: Tree, chance: random.Random) -> Tree:
    def wrapped(inner: Tree) -> Tree:
        for _ in range(chance.choice((1, 1, 2, 10, 31, 33, 90))):
            inner = [inner] if chance.random() < 0.5 else {_key(chance): inner}
        return inner

    return _changed(tree, chance.choice(_ways(tree)), wrapped)


def _cross(tree: Tree, chance: random.Random) -> Tree:
    return _changed(
        tree, chance.choice(_ways(tree)), lambda _: _subtree(chance.choice((tree, *TREES)), chance)
    )


def _many(tree: Tree, chance: random.Random) -> Tree:
    count = chance.choice((2, 2, 2, 5, 5, 5, 5, 100, 2_000, 12_000))
    entry = chance.choice((0, 1.5, "x", "loss.ikd", [1], {"low": 1, "high": 2}, {"metric": "val_accuracy"}))

    def grown(inner: Tree) -> Tree:
        return (
            {f"{_key(chance)}{n}": entry for n in range(count)}
            if isinstance(inner, dict)
            else [entry] * count
        )

    return _changed(tree, chance.choice(_ways(tree)), grown)


TREE_CHANGES = (*[_nudge] * 6, *[_replace] * 4, _remove, _rename, _add, _wrap, _cross, _cross, _many)


def _written(tree: Tree, chance: random.Random) -> str:
    """A tree as YAML, in one of the ways people and programs write it."""
    if chance.random() < 0.5:
        return _flow(tree)
    if not isinstance(tree, dict):
        return f"{_flow(tree)}\n"
    return "".join(f"{_scalar(key)}: {_flow(value)}\n" for key, value in tree.items())


def _flow(tree: Tree) -> str:
    """A tree in braces and brackets, with words as somebody would write them who does not think of quotes."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(_flow, tree)) + "]"
    return _scalar(tree)


def _scalar(value: Tree) -> str:
    if isinstance(value, float) and value != value:
        return ".nan"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return ".inf" if value > 0 else "-.inf"
    if isinstance(value, int) and abs(value) > 10**300:
        return "9" * 5000
    if isinstance(value, str):
        is_plain = value.replace("_", "").replace(".", "").replace("-", "").isalnum() and value.isascii()
        return value if is_plain else json.dumps(value, ensure_ascii=len(value) % 2 == 0)
    return json.dumps(value)


# Changes of the text: it may not be YAML any more.


def _line(text: str, chance: random.Random, change: Callable[[list[str], int], Sequence[str]]) -> str:
    lines = text.splitlines(keepends=True) or [""]
    where = chance.randrange(len(lines))
    lines[where : where + 1] = change(lines, where)
    return "".join(lines)


def _insert(text: str, chance: random.Random, what: str) -> str:
    where = chance.randint(0, len(text))
    return text[:where] + what + text[where:]


SPECIALS = (
    "\0", "\x01", "\x1b[31m", "\x7f", "\x85", "\xa0", "\u2028", "\u2029", "\ufeff", "\ufffe", "\udcff",
    "\t", "\r",
    "\r\n", "\v", "\f", "\b", "\u202e", "\U0001f600", "\U0010ffff", "'", '"', "\\", "\\U99999999", "{",
    "}", "[",
    "]", ",", ":", ": ", "- ", "? ", "# ", "&a ", "*a ", "!x ", "!!python/name:os.system ", "<<: ", "|",
    ">-", "%",
    "\n---\n", "\n...\n", "@", "`", "\n\t", "  ", "\n", "%YAML 1.3\n---\n", "a: &a [*a]\n", "\ud800",
)  # fmt: skip

TEXT_CHANGES: tuple[Callable[[str, random.Random], str], ...] = (
    lambda text, chance: _insert(text, chance, chance.choice(SPECIALS)),
    lambda text, chance: _insert(text, chance, chance.choice(SPECIALS) * chance.choice((2, 40, 4_000))),
    lambda text, chance: _insert(text, chance, chance.choice(WORDS)),
    lambda text, chance: _insert(
        text, chance, chance.choice("ab01-.:[{'\"&*!\u00e9") * 10 ** chance.randint(1, 5)
    ),
    lambda text, chance: _line(text, chance, lambda lines, n: []),
    lambda text, chance: _line(text, chance, lambda lines, n: [lines[n]] * chance.choice((2, 2, 3, 3_000))),
    lambda text, chance: _line(text, chance, lambda lines, n: [" " * chance.randint(1, 5) + lines[n]]),
    lambda text, chance: _line(text, chance, lambda lines, n: ["\t" + lines[n]]),
    lambda text, chance: _line(text, chance, lambda lines, n: [lines[n].lstrip()]),
    lambda text, chance: _line(text, chance, lambda lines, n: [chance.choice(lines), lines[n]]),
    lambda text, chance: _line(
        text, chance, lambda lines, n: [lines[n].partition(":")[0] + ": " + _flow(_value(chance)) + "\n"]
    ),
    lambda text, chance: _line(
        text, chance, lambda lines, n: [lines[n].partition(":")[0] + ": " + chance.choice(WORDS) + "\n"]
    ),
    lambda text, chance: text[: chance.randint(0, len(text))],
    lambda text, chance: text[chance.randint(0, len(text)) :],
    lambda text, chance: text + chance.choice(CORPUS),
    lambda text, chance: text.replace("\n", chance.choice(("\r\n", "\r", "\n\n", "\u2028"))),
    lambda text, chance: text.replace(": ", chance.choice((":", " : ", ":\t", ":\n"))),
    lambda text, chance: text.swapcase(),
    lambda text, chance: f"x: {'[' * (depth := chance.choice((10, 40, 5_000)))}{']' * depth}\n{text}",
    lambda text, chance: f"x: {'{a: ' * (depth := chance.choice((10, 40, 5_000)))}{'}' * depth}\n{text}",
    lambda text, chance: "- " * chance.choice((10, 40, 5_000)) + text,
    lambda text, chance: _bomb(chance.choice((4, 12, 26))) + text,
    lambda text, chance: (
        f"extends: {chance.choice((*WORDS, 'x.yaml', '.', './x.yaml', 'x.yaml/x.yaml'))}\n{text}"
    ),
)


def _bomb(levels: int) -> str:
    """Anchors that name each other, twice as much at every level."""
    names = [f"b{level}" for level in range(levels)]
    return f"{names[0]}: &{names[0]} [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise(names)
    )


# Changes of the bytes: it may not be text any more.


def _flip(data: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(data or b"x")
    for _ in range(chance.choice((1, 1, 10))):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


BYTE_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _flip,
    lambda data, chance: data.decode("utf-8", "replace").encode(chance.choice(("utf-16", "utf-32", "utf-7"))),
    lambda data, chance: chance.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80")) + data,
    lambda data, chance: b"PK\x03\x04" + data,
    lambda data, chance: b"\x80\x04cposix\nsystem\n(X\x04\x00\x00\x00trueo." + data,
    lambda data, chance: b"",
    lambda data, chance: (data or b"x") * (1 + 2**18 // max(len(data), 1)),
)
