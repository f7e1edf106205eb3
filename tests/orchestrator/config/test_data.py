from collections.abc import Callable
from pathlib import Path

import pytest

from cpsc_core.data.normalization import NORMALIZATIONS
from cpsc_core.settings import DataSettings
from orchestrator.config import Experiment

STATISTICS = "normalization: NORMALIZATION"
OWN = f"data={{name: parquet, root: d, size: 32, classes: 10, {STATISTICS}, test: 'test*.parquet'}}"


def settings(load: Callable[..., Experiment], data: str) -> DataSettings:
    return load(overrides=[data]).config.data.settings()


def test_the_block_becomes_the_settings_of_the_core(load: Callable[..., Experiment], tmp_path: Path) -> None:
    imagenet = NORMALIZATIONS["imagenet"]

    assert settings(load, OWN.replace("NORMALIZATION", "imagenet")) == DataSettings(
        name="parquet",
        root=str(tmp_path / "d"),
        size=32,
        classes=10,
        mean=imagenet.mean,
        std=imagenet.std,
        test="test*.parquet",
    )


def test_a_normalisation_may_be_given_in_numbers(load: Callable[..., Experiment]) -> None:
    given = settings(load, OWN.replace("NORMALIZATION", "{mean: [0.5], std: [0.25]}"))

    assert (given.mean, given.std) == ((0.5,), (0.25,))


def test_classes_may_be_names(load: Callable[..., Experiment]) -> None:
    named = OWN.replace("NORMALIZATION", "imagenet").replace("classes: 10", "classes: [cat, dog]")

    assert settings(load, named).classes == ("cat", "dog")


def test_a_published_data_set_needs_no_more_than_a_root(load: Callable[..., Experiment]) -> None:
    assert settings(load, "data={name: cifar10, root: /data}") == DataSettings(name="cifar10", root="/data")


@pytest.mark.parametrize("pattern", ["/etc/*", "../*.parquet"])
def test_patterns_stay_below_the_root(refusal: Callable[..., list[str]], pattern: str) -> None:
    [line] = refusal(overrides=[OWN.replace("NORMALIZATION", "imagenet").replace("test*.parquet", pattern)])

    assert "data.test: must be relative to data.root and stay below it" in line
