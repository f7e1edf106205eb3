from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from cpsc_core import tables
from cpsc_core.data import labelled
from cpsc_core.networks import offered
from orchestrator.config import Experiment, parse_experiment
from orchestrator.config.checks import CHECKS
from orchestrator.config.schema import SweepConfig


def test_images_that_the_generator_cannot_draw_are_refused(
    refusal: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = SimpleNamespace(spec=SimpleNamespace(size=30))
    monkeypatch.setattr(labelled, "lookup", lambda table, name: odd)

    [line] = refusal()

    assert line == (
        "x.yaml:2: data.name: its images are 30 pixels wide, but the generator draws multiples of 4; "
        "resize them to 28 or 32"
    )


def test_the_five_best_of_a_few_classes_are_refused_wherever_they_are_named(
    refusal: Callable[..., list[str]], load: Callable[..., Experiment]
) -> None:
    top5 = ["objective.metric=val_top5", "constraints=[latency <= 1, val_top5 >= 0.5]"]
    load(overrides=top5)
    data = "data={name: imagefolder, size: 32, classes: 5, normalization: imagenet, root: .}"

    lines = refusal(overrides=[*top5, data])

    said = "is not measured with 5 classes, where it says little"
    assert lines == [f"--set constraints: constraints[1]: {said}", f"--set objective.metric: {said}"]


def test_two_packages_that_offer_one_name_are_reported_as_a_problem_not_a_trace(
    refusal: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def clash(table: object, name: str) -> object:
        raise tables.SettingsError("data set 'digits' is offered twice")

    monkeypatch.setattr(labelled, "lookup", clash)

    assert refusal() == ["x.yaml:2: data: data set 'digits' is offered twice"]


@pytest.mark.parametrize("field", ["teacher", "student"])
def test_a_network_that_a_library_lacks_is_refused_with_the_nearest(
    refusal: Callable[..., list[str]], load: Callable[..., Experiment], field: str
) -> None:
    load(overrides=[f"{field}.arch=torchvision:resnet18"])

    [line] = refusal(overrides=[f"{field}.arch=torchvision:resnet19"])

    assert "torchvision offers no classifier called 'resnet19'; nearest of its" in line
    assert "resnet18" in line


def test_a_library_that_is_not_installed_is_named_with_how_to_install_it(
    refusal: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offered, "find_spec", lambda library: None)
    offered.offered_names.cache_clear()

    [line] = refusal(overrides=["student.arch=timm:resnet18"])

    assert 'need timm, which is not installed; pip install "cpsc-orchestrate[timm]"' in line


@pytest.mark.parametrize(
    ("search", "misfit"),
    [
        ("{low: 8, high: 64}", 9),
        ("{low: 8, high: 64, step: 7}", 15),
        ("{low: 8, high: 64, log: true}", 9),
        ("{choices: [8, 6, 12]}", 6),
    ],
)
def test_workers_that_cannot_share_each_searched_batch_are_refused(
    refusal: Callable[..., list[str]], search: str, misfit: int
) -> None:
    [line] = refusal(overrides=[f"search.batch_size={search}", "resources.workers=4"])

    assert line == (
        f"--set resources.workers: must divide each batch_size of the search, {misfit} too, but is 4"
    )


@pytest.mark.parametrize(
    "search", ["{low: 8, high: 64, step: 8}", "{low: 4, high: 1000000000000, step: 4}", "{choices: [8, 12]}"]
)
def test_workers_that_can_share_each_searched_batch_are_accepted(
    load: Callable[..., Experiment], search: str
) -> None:
    overrides = [f"search.batch_size={search}", "resources.workers=4", "train.batch_size=7"]

    assert load(overrides=overrides).config.resources.workers == 4


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_loss_is_an_objective_in_the_direction_that_is_given(
    load: Callable[..., Experiment], direction: str
) -> None:
    config = load(overrides=[f"objective={{metric: generator_kl, direction: {direction}}}"]).config

    assert config.objective.direction == direction


def test_a_grid_over_steps_choices_and_whole_numbers_is_finite(load: Callable[..., Experiment]) -> None:
    config = load(overrides=["sampler.name=grid", "search.loss.ikd={log: false, step: 0.1}"]).config

    assert config.sampler.name == "grid"


def test_the_frozen_copy_of_a_sweep_does_not_need_the_checkpoint_any_more(valid: str) -> None:
    text = valid.replace("{arch: resnet20}", "{arch: resnet20, checkpoint: /gone/teacher.pt}")

    assert parse_experiment(text).config.teacher.checkpoint == Path("/gone/teacher.pt")


def test_a_checkpoint_whose_name_no_file_system_takes_is_refused(
    refusal: Callable[..., list[str]],
) -> None:
    [line] = refusal(overrides=[f"teacher.checkpoint=/{'a' * 300}"])

    assert line == "--set teacher.checkpoint: cannot be read: File name too long"


def test_a_checkpoint_lies_relative_to_the_file(load: Callable[..., Experiment], tmp_path: Path) -> None:
    (tmp_path / "t.pt").touch()

    config = load(overrides=["teacher.checkpoint=t.pt"]).config

    assert config.teacher.checkpoint == tmp_path / "t.pt"


def test_every_check_names_fields_of_the_schema() -> None:
    paths = {path.split(".")[0] for needs, _ in CHECKS for path in needs}

    assert paths <= SweepConfig.model_fields.keys()
