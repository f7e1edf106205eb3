"""The published schema of experiment files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.document import Place
from orchestrator.config.json_schema import experiment_schema
from orchestrator.config.yaml_file import parse_yaml

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
FILES = sorted(EXPERIMENTS.glob("*.yaml"))


def problems(text: str) -> list[str]:
    """What an editor would underline."""
    jsonschema = pytest.importorskip("jsonschema")
    root, _ = parse_yaml(text, Place("x.yaml", 1, Path()))
    validator = jsonschema.Draft202012Validator(experiment_schema())
    return [error.message for error in validator.iter_errors(root.plain())]


def test_the_published_schema_is_current() -> None:
    published: dict[str, Any] = json.loads((EXPERIMENTS / "schema.json").read_text())

    assert published == experiment_schema(), "run `cpsc-orchestrate schema > experiments/schema.json`"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_experiment_of_the_repository_passes_in_an_editor(path: Path) -> None:
    assert problems(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_experiment_tells_editors_where_the_schema_is(path: Path) -> None:
    (line,) = [line for line in path.read_text().splitlines() if line.startswith("# yaml-language-server:")]

    assert (path.parent / line.partition("$schema=")[2]).resolve() == (EXPERIMENTS / "schema.json").resolve()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("train: {epoch: 3}", "epoch"),
        ("search: {loss.idk: {low: 0.1, high: 1}}", "loss.idk"),
        ("budget: {trials: 0}", "0 is less than the minimum of 1"),
        ("objective: {direction: up}", "up"),
    ],
)
def test_a_slip_is_underlined(wrong: str, message: str) -> None:
    assert any(message in each for each in problems(f"extends: digits.yaml\n{wrong}\n"))


def test_a_file_that_extends_another_may_leave_out_what_that_has() -> None:
    assert problems("extends: digits.yaml\n") == []
    assert any("'teacher' is a required property" in each for each in problems("name: x\n"))


def test_every_field_is_explained() -> None:
    schema = experiment_schema()
    blocks = schema["$defs"]

    def is_explained(field: dict[str, Any]) -> bool:
        block = field.get("$ref", "").rpartition("/")[2]
        return "description" in field or "description" in blocks.get(block, {})

    bare = [
        (title, name)
        for title, block in {"file": schema, **blocks}.items()
        for name, field in block.get("properties", {}).items()
        if not is_explained(field)
    ]
    assert bare == []
