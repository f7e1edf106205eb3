"""From the text of an experiment file to a validated, frozen configuration, or to every error at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.config.checks import CHECKS, FILE_CHECKS, Check
from orchestrator.config.document import Node, Place, Problem, report
from orchestrator.config.environment import expand, find_misuse, find_secrets
from orchestrator.config.layers import extend, override, read_layers
from orchestrator.config.schema import PATHS, SweepConfig
from orchestrator.config.validate import judge
from orchestrator.config.yaml_file import parse_yaml, write_yaml
from orchestrator.errors import ConfigError
from orchestrator.store.address import is_remote

__all__ = ["Experiment", "load_experiment", "parse_experiment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A validated experiment and the text that stands for it."""

    config: SweepConfig
    """What is to be done."""
    text: str
    """YAML with all files and overrides merged, absolute paths, and references to the environment kept."""
    path: Path
    """The file it was read from."""


def load_experiment(
    path: Path, overrides: Sequence[str] = (), *, environment: Mapping[str, str] = os.environ
) -> Experiment:
    """The experiment in a file, with what it extends and `a.b=VALUE` overrides merged in.

    Relative paths belong to the file that gives them, or to the working directory in an override. Raises
    ConfigError with one line for everything that is wrong, a teacher checkpoint that is not there included.
    """
    root, problems = read_layers(path)
    return _settle(root, problems, overrides, path, environment, (*CHECKS, *FILE_CHECKS))


def parse_experiment(
    text: str,
    overrides: Sequence[str] = (),
    *,
    path: Path = Path("sweep.yaml"),
    environment: Mapping[str, str] = os.environ,
) -> Experiment:
    """The experiment in the frozen copy of a sweep folder; `path` is what messages call it.

    Like `load_experiment`, but a teacher checkpoint need not be there any more: the sweep has its own copy.
    """
    start = Place(str(path), 1, path.parent.absolute())
    root, problems = extend(*parse_yaml(text, start), chain=(path,))
    return _settle(root, problems, overrides, path, environment, CHECKS)


def _settle(
    root: Node,
    problems: list[Problem],
    overrides: Sequence[str],
    path: Path,
    environment: Mapping[str, str],
    checks: Iterable[tuple[tuple[str, ...], Check]],
) -> Experiment:
    root, found = override(root, overrides)
    root = _anchor_paths(root, environment)
    plain = root.plain(lambda value: expand(value, environment))
    config, wrong = judge(root, plain, checks)
    problems = [*problems, *found, *find_secrets(root), *find_misuse(root, environment), *wrong]
    if problems:
        lines, mistakes = report(problems, root)
        raise ConfigError(lines, mistakes=mistakes)
    return Experiment(config=config, text=_canonical(root), path=path)


def _anchor_paths(root: Node, environment: Mapping[str, str]) -> Node:
    """Relative paths made absolute, so that the text means the same from anywhere."""
    for keys in PATHS:
        node = root.find(keys)
        if node is not None and isinstance(node.value, str) and _is_relative(expand(node.value, environment)):
            root = root.put(keys, replace(node, value=str(node.place.folder / node.value)))
    return root


def _is_relative(path: str) -> bool:
    return bool(path) and not path.startswith(("~", "/")) and not is_remote(path)


def _canonical(root: Node) -> str:
    """Blocks in the order of the schema, keys within them in the order of the alphabet."""
    plain = root.plain()
    return write_yaml({name: _sorted(plain[name]) for name in SweepConfig.model_fields if name in plain})


def _sorted(value: Any) -> Any:
    return {key: _sorted(value[key]) for key in sorted(value)} if isinstance(value, dict) else value
