"""A small valid experiment, and what is said about a broken one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from orchestrator.config import Experiment, load_experiment
from orchestrator.errors import ConfigError

VALID = """\
name: toy
data: {name: digits}
teacher: {arch: resnet20}
student: {arch: resnet8}
train:
  epochs: 9
  loss: {ikd: 2}
search:
  loss.ikd: {low: 0.1, high: 10, log: true}
  generator.steps: {low: 1, high: 8}
pruner: {name: successive_halving, min_epochs: 1, reduction_factor: 3}
budget: {trials: 10}
"""


@pytest.fixture
def valid() -> str:
    """The text of a valid experiment of 12 lines."""
    return VALID


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Experiment]:
    """Loads a text, or the valid one, from the file x.yaml in a folder of its own, which it works in."""
    monkeypatch.chdir(tmp_path)

    def load(
        text: str | bytes = VALID, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> Experiment:
        Path("x.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_experiment(Path("x.yaml"), overrides, environment=environment or {})

    return load


@pytest.fixture
def refusal(load: Callable[..., Experiment]) -> Callable[..., list[str]]:
    """The lines of the refusal of a text that cannot be loaded."""

    def refusal(*arguments: object, **named: object) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(*arguments, **named)
        return str(caught.value).splitlines()

    return refusal


@pytest.fixture
def refusal_of_line(refusal: Callable[..., list[str]], valid: str) -> Callable[[int, str], list[str]]:
    """The refusal of the valid text with one line, counted from 1, replaced by another; 13 adds one."""

    def refusal_of_line(number: int, replacement: str) -> list[str]:
        lines = valid.splitlines()
        lines[number - 1 : number] = [replacement]
        return refusal("\n".join(lines) + "\n")

    return refusal_of_line
