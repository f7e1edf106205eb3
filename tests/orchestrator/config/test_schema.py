from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cpsc_core.limits import field_limits
from cpsc_core.settings import TeacherTraining, TrainSettings, field_paths
from orchestrator.config import Experiment, SweepConfig
from orchestrator.store.records import EndClass

Load = Callable[..., Experiment]

LIMITS = [
    ("budget.trials", 1, 100_000),
    ("confirm.top", 0, 100),
    ("confirm.seeds", 1, 100),
    ("resources.cpus_per_worker", 1, 1024),
    ("resources.gpus_per_worker", 0, 1024),
    ("retry.infrastructure", 0, 100),
    ("retry.out_of_memory", 0, 100),
    ("retry.hang", 0, 100),
    ("retry.diverged", 0, 100),
    ("retry.error", 0, 100),
    ("sampler.seed", 0, None),
    ("sampler.options.n_startup_trials", 1, 100_000),
    ("sampler.options.n_ei_candidates", 1, 100_000),
    ("pruner.reduction_factor", 2, 100),
    ("pruner.min_epochs", 1, None),
]


def described(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every field in a JSON schema with its description, empty if neither it nor its block has one."""
    blocks = {"": schema, **schema["$defs"]}
    for block, inner in blocks.items():
        for name, field in inner.get("properties", {}).items():
            whole = blocks.get(field.get("$ref", "").removeprefix("#/$defs/"), {})
            yield f"{block}.{name}", field.get("description") or whole.get("description", "")


def test_every_field_of_the_file_has_a_sentence() -> None:
    fields = dict(described(SweepConfig.model_json_schema()))

    assert [path for path, text in fields.items() if not text.endswith(".")] == []
    assert {".storage", "TrainSettings.epochs", "TeacherTraining.augment", "FloatRange.step"} <= fields.keys()


@pytest.mark.parametrize(("path", "low", "high"), LIMITS)
def test_a_limit_itself_is_allowed_and_the_next_number_is_not(
    load: Load, refusal: Callable[..., list[str]], path: str, low: int, high: int | None
) -> None:
    for limit, beyond in [(low, low - 1), (high, high + 1 if high is not None else None)]:
        if limit is None:
            continue
        load(overrides=[f"{path}={limit}"])
        [line] = refusal(overrides=[f"{path}={beyond}"])
        assert line.startswith(f"--set {path}: must be ")
        assert line.endswith(f", but is {beyond}")


@pytest.mark.parametrize("path", ["budget.hours", "hang.seconds"])
def test_durations_are_positive(load: Load, refusal: Callable[..., list[str]], path: str) -> None:
    load(overrides=[f"{path}=1e-3"])

    assert refusal(overrides=[f"{path}=0"]) == [f"--set {path}: must be greater than 0, but is 0"]


CORE = [
    (f"{block}.{path}", hint)
    for block, settings in [("train", TrainSettings), ("teacher.train", TeacherTraining)]
    for path, hint in field_paths(settings).items()
    if field_limits(hint) != (-float("inf"), float("inf"))
]


@pytest.mark.parametrize(("path", "hint"), CORE, ids=[path for path, _ in CORE])
def test_the_limits_of_the_training_core_hold_in_the_file(
    refusal: Callable[..., list[str]], path: str, hint: Any
) -> None:
    low, high = field_limits(hint)

    for beyond in [low - 1] + ([high + 1] if high < 1e9 else []):
        value = int(beyond)
        [line] = refusal(overrides=[f"{path}={value}", "pruner.name=none"])
        assert line.startswith(f"--set {path}: must be ")
        assert line.endswith(f", but is {value}")


def test_what_is_left_out_has_a_default(load: Load) -> None:
    config = load(overrides=["pruner.name=none"]).config

    assert config.sampler.name == "tpe"
    assert config.objective.model_dump() == {"metric": "val_accuracy", "direction": "maximize", "of": "last"}
    assert config.resources.gpus_per_worker == "auto"
    assert config.storage == Path.home() / "cpsc-runs"
    assert config.tracking.uri is None


def test_a_configuration_cannot_be_changed(load: Load) -> None:
    config = load().config

    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        config.train.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(("given", "value"), [("auto", "auto"), ("1", 1.0), ("0.5", 0.5), ("0", 0.0)])
def test_gpus_are_counted_or_found_out(load: Load, given: str, value: object) -> None:
    assert load(overrides=[f"resources.gpus_per_worker={given}"]).config.resources.gpus_per_worker == value


def test_the_home_folder_is_expanded(load: Load) -> None:
    assert load(overrides=["storage=~/x"]).config.storage == Path.home() / "x"


def test_retries_are_counted_by_class_of_failure(load: Load) -> None:
    limits = load(overrides=["retry.hang=7"]).config.retry.limits()

    assert limits == {"infrastructure": 5, "out_of_memory": 1, "hang": 7, "diverged": 0, "error": 0}
    assert all(EndClass(name).is_failure for name in limits)
