from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cpsc_core import tables
from cpsc_core.limits import field_limits
from cpsc_core.settings import TrainSettings, field_paths
from orchestrator.config import Choices, Experiment, SweepConfig, load_experiment, parse_experiment
from orchestrator.config.objectives import LOSSES, SCORES
from orchestrator.config.search import NOT_SEARCHED, field_kind
from orchestrator.config.yaml_file import write_yaml
from orchestrator.errors import ConfigError

DIGITS = Path(__file__).parents[3] / "experiments" / "digits.yaml"

Load = Callable[..., Experiment]


def some(
    required: dict[str, Any], optional: dict[str, Any] | None = None
) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


FRACTIONS = st.floats(1e-3, 0.9) | st.sampled_from([1e-7, 5e-4, 0.1])
COUNTS = st.integers(2, 99)
HINTS = field_paths(TrainSettings)


def value_of(path: str) -> st.SearchStrategy[Any]:
    """Values a field of train may have."""
    if path in ("method", "preset", "precision", "loss.ikd_form"):
        return st.sampled_from(
            {
                "method": sorted(tables.METHODS),
                "preset": ["faithful", "fixed", "strong"],
                "precision": ["fp32", "bf16"],
                "loss.ikd_form": ["mse", "log_mse"],
            }[path]
        )
    if field_kind(path) is bool:
        return st.booleans()
    if field_kind(path) is int:
        return COUNTS
    return FRACTIONS if field_limits(HINTS[path])[1] <= 1 else FRACTIONS | st.integers(1, 50)


@st.composite
def specs(draw: st.DrawFn, path: str) -> dict[str, Any]:
    """Entries of the search space for a field of train."""
    kind = field_kind(path)
    if kind not in (int, float) or draw(st.booleans()):
        return {"choices": draw(st.lists(value_of(path), min_size=1, max_size=4, unique=True))}
    if draw(st.booleans()):
        low, high, step = (2, 8, 3) if kind is int else (0.1, 0.7, 0.2)
        return {"low": low, "high": high, "step": step}
    low, high = sorted(draw(st.lists(value_of(path), min_size=2, max_size=2, unique=True)))
    return {"low": low, "high": high} | draw(st.sampled_from([{}, {"log": True}, {"step": None}]))


@st.composite
def trains(draw: st.DrawFn) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in draw(st.lists(st.sampled_from(sorted(HINTS)), unique=True)):
        *blocks, name = path.split(".")
        inner = tree
        for block in blocks:
            inner = inner.setdefault(block, {})
        inner[name] = draw(value_of(path))
    return tree | {"epochs": draw(st.integers(100, 200))}


SEARCHES = st.lists(
    st.sampled_from(sorted(HINTS.keys() - NOT_SEARCHED.keys())), unique=True, min_size=1, max_size=5
).flatmap(lambda paths: st.fixed_dictionaries({path: specs(path) for path in paths}))

EXPERIMENTS = some(
    {
        "name": st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True).filter(
            lambda name: name != "teachers"
        ),
        "data": some(
            {"name": st.just("digits")}, {"root": st.sampled_from([None, "/data", "~/data", "/a b: c"])}
        ),
        "teacher": some(
            {"arch": st.sampled_from(sorted(tables.NETWORKS))},
            {
                "checkpoint": st.sampled_from([None, "/t.pt", "/caf\u00e9/#1.pt"]),
                "train": some({}, {"epochs": COUNTS, "augment": st.booleans(), "lr": FRACTIONS}),
            },
        ),
        "student": some({"arch": st.sampled_from(sorted(tables.NETWORKS))}),
        "train": trains(),
        "search": SEARCHES,
    },
    {
        "sampler": some(
            {"name": st.sampled_from(["tpe", "random", "qmc"])}, {"seed": COUNTS, "options": some({})}
        ),
        "pruner": some({"name": st.just("none")})
        | some({"name": st.just("median")}, {"min_epochs": COUNTS, "startup_trials": COUNTS})
        | some({"name": st.just("successive_halving")}, {"min_epochs": COUNTS, "reduction_factor": COUNTS}),
        "objective": some(
            {"metric": st.sampled_from(SCORES)}, {"of": st.sampled_from(["best", "last", "mean5"])}
        )
        | some({"metric": st.sampled_from(LOSSES), "direction": st.sampled_from(["minimize", "maximize"])}),
        "budget": some(
            {},
            {
                "trials": COUNTS,
                "hours": st.none() | FRACTIONS,
                "plateau": st.none() | some({"trials": COUNTS}, {"min_delta": FRACTIONS}),
            },
        ),
        "confirm": some({}, {"top": st.integers(0, 9), "seeds": st.integers(1, 9)}),
        "resources": some(
            {}, {"workers": st.just(1), "gpus_per_worker": st.just("auto") | FRACTIONS | st.integers(0, 8)}
        ),
        "retry": some({}, {"hang": st.integers(0, 9), "error": st.integers(0, 9)}),
        "hang": some({}, {"seconds": st.integers(1, 99) | FRACTIONS}),
        "storage": st.sampled_from(["~/cpsc-runs", "/runs", "/no", "/1e3"]),
        "tracking": some({}, {"uri": st.none() | st.sampled_from(["http://h:5000", "sqlite:////a.db"])}),
    },
)


def given_values(tree: Any, config: Any) -> bool:
    """Whether a configuration, as plain values, holds every value of a tree."""
    if isinstance(tree, dict):
        return all(given_values(value, config[key]) for key, value in tree.items())
    return bool(tree == config) or (isinstance(tree, str) and Path(tree).expanduser() == Path(config))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(EXPERIMENTS)
def test_any_valid_experiment_comes_back_from_its_text(tree: dict[str, Any]) -> None:
    first = parse_experiment(write_yaml(tree))
    again = parse_experiment(first.text)
    from_json = parse_experiment(json.dumps(tree))

    assert again.config == first.config == from_json.config
    assert again.text == first.text == from_json.text
    assert given_values(tree, first.config.model_dump(mode="json"))
    assert SweepConfig.model_validate_json(first.config.model_dump_json()) == first.config


CHARACTERS = st.sampled_from("{}[]: \n\t-#'\"~|>%\x00\ud7ff\u2028")
WORDS = CHARACTERS | st.sampled_from(
    [
        "&a ",
        "*a",
        "!!x ",
        "? ",
        "---\n",
        "9" * 30,
        "1e999",
        "null",
        "${env:X}",
        "extends: x\n",
        "name",
        "search:",
    ]
)


def mutated(text: str, changes: list[tuple[float, int, str]]) -> str:
    """The text with some stretches replaced: each from a place between 0 and 1, so many characters long."""
    for where, length, word in changes:
        start = int(where * len(text))
        text = text[:start] + word + text[start + length :]
    return text


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 30), WORDS | st.text(max_size=3)), min_size=1, max_size=4
    )
)
@example([(0.0, 10**6, "")])
def test_a_mangled_text_is_an_experiment_or_a_refusal_with_a_place(
    changes: list[tuple[float, int, str]],
) -> None:
    text = mutated(DIGITS.read_text(encoding="utf-8"), changes)

    try:
        again = parse_experiment(text, environment={"MLFLOW_PASSWORD": "x", "X": "y"})
    except ConfigError as error:
        lines = str(error).splitlines()
        assert lines
        assert all(line.startswith(("sweep.yaml:", "sweep.yaml: ")) for line in lines)
    else:
        assert parse_experiment(again.text, environment={"X": "y"}).config == again.config


NAMES = st.sampled_from(["name", "low", "high", "choices", "loss.ikd", "trials", "<float>", "tpe", "fixed"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_any_value_anywhere_is_an_experiment_or_a_refusal(data: st.DataObject) -> None:
    tree = plain_digits()
    inner, key = tree, data.draw(st.sampled_from(sorted(tree)))
    while isinstance(inner[key], dict) and data.draw(st.booleans()):
        inner = inner[key]
        key = data.draw(st.sampled_from([*sorted(inner), "extra"]))
        if key not in inner:
            break
    inner[key] = data.draw(JSON)

    try:
        parse_experiment(json.dumps(tree))
    except ConfigError as error:
        assert all(line.startswith("sweep.yaml:1: ") for line in str(error).splitlines())


def plain_digits() -> dict[str, Any]:
    """The digits experiment as plain values."""
    config = load_experiment(DIGITS).config
    return copy.deepcopy(json.loads(config.model_dump_json()))


OVERRIDES = st.tuples(
    st.sampled_from(["train.", "search.", "extends", "a..", ""]),
    WORDS | st.text(max_size=4),
    st.sampled_from(["=", "=[", "={a: 1}", ""]),
).map("".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=12) | OVERRIDES, max_size=3))
def test_any_override_is_an_experiment_or_a_refusal(overrides: list[str]) -> None:
    try:
        load_experiment(DIGITS, overrides)
    except ConfigError as error:
        assert str(error)


def test_the_tour_of_the_format_keeps_its_promises() -> None:
    config = load_experiment(DIGITS).config

    assert len(config.search) >= 6
    assert config.pruner.name == "successive_halving"
    assert len(config.pruner.rungs(config.train.epochs)) >= 2
    assert config.budget.trials >= 12
    assert 1 <= config.confirm.top <= 2
    assert config.confirm.seeds == 2
    assert isinstance(config.search["generator.latent_dim"], Choices)


def test_the_tour_of_the_format_shows_every_block() -> None:
    text = DIGITS.read_text(encoding="utf-8")

    assert [name for name in SweepConfig.model_fields if f"\n{name}:" not in text] == []


def test_the_search_that_the_readme_shows_is_a_valid_one(valid: str) -> None:
    readme = (DIGITS.parents[1] / "README.md").read_text(encoding="utf-8")
    shown = next(text for text in readme.split("```yaml\n")[1:] if text.startswith("search:"))
    kept = [
        line for line in valid.splitlines() if line.split(":")[0] in ("name", "data", "teacher", "student")
    ]

    config = parse_experiment("\n".join([*kept, "train: {epochs: 9}", shown.split("```")[0]])).config

    assert len(config.objectives) == 2


def test_an_experiment_knows_its_file(load: Load) -> None:
    assert load().path == Path("x.yaml")
    assert parse_experiment(load().text).path == Path("sweep.yaml")


def test_the_text_is_the_same_from_anywhere(load: Load, valid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = load(f"{valid}storage: runs\n")

    with tempfile.TemporaryDirectory() as elsewhere:
        monkeypatch.chdir(elsewhere)
        assert parse_experiment(experiment.text).config == experiment.config


def test_the_text_reads_in_the_order_of_the_schema(load: Load) -> None:
    blocks = [line.split(":")[0] for line in load().text.splitlines() if not line.startswith(" ")]

    assert blocks == ["name", "data", "teacher", "student", "train", "search", "pruner", "budget"]


def test_a_frozen_copy_takes_overrides(load: Load) -> None:
    assert parse_experiment(load().text, ["budget.trials=20"]).config.budget.trials == 20


def test_reading_an_experiment_loads_no_heavy_library() -> None:
    code = (
        "import sys, pathlib, orchestrator.config as c;"
        f"c.load_experiment(pathlib.Path({str(DIGITS)!r}));"
        "print({'torch', 'ray', 'optuna', 'mlflow', 'sklearn'} & sys.modules.keys())"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
