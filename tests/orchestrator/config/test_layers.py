from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config import Experiment, load_experiment
from orchestrator.errors import ConfigError

Load = Callable[..., Experiment]
Refusal = Callable[..., list[str]]


def test_a_file_is_merged_over_those_it_extends(load: Load, valid: str, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "ground.yaml").write_text(valid)
    (tmp_path / "base.yaml").write_text("extends: far/ground.yaml\ntrain: {epochs: 20, seed: 4}\n")

    config = load("extends: base.yaml\nname: top\ntrain: {epochs: 30}\n").config

    assert (config.name, config.train.epochs, config.train.seed, config.train.loss.ikd) == ("top", 30, 4, 2.0)


def test_a_relative_path_belongs_to_the_file_that_gives_it(load: Load, valid: str, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "base.yaml").write_text(f"{valid}storage: runs\n")

    config = load("extends: far/base.yaml\ndata: {root: images}\n").config

    assert config.storage == tmp_path / "far" / "runs"
    assert config.data.root == tmp_path / "images"


def test_a_mistake_is_placed_in_the_file_that_holds_it(refusal: Refusal, valid: str, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(valid.replace("epochs: 9", "epochs: 0"))

    lines = refusal("extends: base.yaml\nbudget: {trials: 0}\n", overrides=["confirm.seeds=0"])

    assert lines == [
        "base.yaml:6: train.epochs: must be at least 1, but is 0",
        "x.yaml:2: budget.trials: must be at least 1, but is 0",
        "--set confirm.seeds: must be at least 1, but is 0",
    ]


def test_a_wrong_value_below_a_right_one_does_not_matter(load: Load, valid: str, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(valid.replace("epochs: 9", "epochs: 0"))

    assert load("extends: base.yaml\ntrain: {epochs: 9}\n").config.train.epochs == 9


def test_files_that_extend_each_other_are_refused_with_the_circle(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nextends: ./x.yaml\n")

    assert refusal("extends: a.yaml\n") == [
        "a.yaml:2: extends: the files extend each other in a circle: x.yaml -> a.yaml -> x.yaml"
    ]
    assert refusal("extends: x.yaml\n") == [
        "x.yaml:1: extends: the files extend each other in a circle: x.yaml -> x.yaml"
    ]


def test_a_link_to_itself_is_refused(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")

    [line] = refusal("extends: loop.yaml\n")

    assert line.startswith("x.yaml:1: extends: ")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("no.yaml", "there is no file no.yaml"),
        ("..", "there is no file .."),
        ("[a.yaml]", "must be the path of a file, but is a list"),
        ("''", "must be the path of a file, but is ''"),
        ("null", "must be the path of a file, but is null"),
        ("'~nobody-of-this-name/x'", ". cannot be read: Could not determine home directory."),
        ("a" * 300, f"{'a' * 300} cannot be read: [Errno 36] File name too long: '{'a' * 300}'"),
    ],
)
def test_what_cannot_be_extended_is_refused(refusal: Refusal, given: str, said: str) -> None:
    assert refusal(f"name: x\nextends: {given}\n") == [f"x.yaml:2: extends: {said}"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("- a\n", "holds a list"),
        ("hello", "holds 'hello'"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(refusal: Refusal, text: str, said: str) -> None:
    assert refusal(text) == [
        f"x.yaml:1: {said}; an experiment file is a mapping with name, data, teacher and more"
    ]


def test_overrides_win_and_the_later_over_the_earlier(load: Load) -> None:
    config = load(overrides=["train.epochs=20", "train.loss={batch_norm: 0.5}", "train.epochs=30"]).config

    assert (config.train.epochs, config.train.loss.batch_norm, config.train.loss.ikd) == (30, 0.5, 2.0)


def test_below_search_the_path_into_train_is_one_key(load: Load) -> None:
    config = load(overrides=["search.loss.ikd.high=20", "search.student.lr={low: 0.01, high: 0.1}"]).config

    assert (config.search["loss.ikd"].low, config.search["loss.ikd"].high) == (0.1, 20.0)
    assert config.search["student.lr"].high == 0.1


@pytest.mark.parametrize("order", [1, -1])
def test_naming_another_sampler_starts_afresh_whatever_the_order(load: Load, valid: str, order: int) -> None:
    text = f"{valid}sampler: {{seed: 3, options: {{n_startup_trials: 2}}}}\n"

    config = load(text, overrides=["sampler.name=random", "sampler.seed=7"][::order]).config

    assert (config.sampler.name, config.sampler.seed) == ("random", 7)


def test_no_pruner_replaces_the_whole_block(load: Load) -> None:
    assert load(overrides=["pruner.name=none"]).config.pruner.model_dump() == {"name": "none"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("train.epochs", "--set 'train.epochs': write it as --set train.epochs=2"),
        ("=3", "--set '': write it as --set train.epochs=2"),
        ("train..epochs=3", "--set 'train..epochs': write it as --set train.epochs=2"),
        ("a\nb=3", "--set 'a\\nb': write it as --set train.epochs=2"),
        ("train.epochs=[", "--set train.epochs: not valid YAML: expected the node content, but found "
            "'<stream end>'"),
        ("train.epochs=two", "--set train.epochs: must be a whole number, but is 'two'"),
        ("train.epochs=", "--set train.epochs: must be a whole number, but is null"),
        ("train.epochs=!!int 3", "--set train.epochs: tags (tag:yaml.org,2002:int) are not supported; "
            "write the value without it"),
        ("train.loss={ikd: 1, ikd: 2}", "--set train.loss: train.loss.ikd: is given twice; the first time at "
            "--set train.loss"),
        ("train.epochs.x=3", "--set train.epochs.x: train.epochs: must be a whole number, but is a mapping"),
        ("train.loss.ikdd=3", "--set train.loss.ikdd: unknown key; did you mean ikd? allowed: batch_norm, "
            "contrastive, ikd, ikd_form, pseudo_label, temperature"),
    ],
)  # fmt: skip
def test_an_override_that_does_not_fit_is_named(refusal: Refusal, given: str, message: str) -> None:
    assert refusal(overrides=[given]) == [message]


def test_a_relative_path_in_an_override_belongs_to_the_working_directory(load: Load, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    load()
    (tmp_path / "x.yaml").rename(tmp_path / "far" / "x.yaml")

    config = load_experiment(Path("far/x.yaml"), ["storage=runs"]).config

    assert config.storage == tmp_path / "runs"


def test_a_file_is_called_what_the_user_called_it(load: Load, tmp_path: Path) -> None:
    load()
    path = tmp_path / "x.yaml"
    path.write_text("name: 3\n")

    with pytest.raises(ConfigError, match=rf"^{path}:1: name: must be text"):
        load_experiment(path)


def test_null_takes_a_dimension_of_the_search_away(load: Load, valid: str, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(valid)

    by_override = load(valid, overrides=["search.loss.ikd=null"]).config
    by_file = load("extends: base.yaml\nname: top\nsearch: {loss.ikd: null}\n").config

    assert "loss.ikd" in load(valid).config.search
    assert "loss.ikd" not in by_override.search
    assert list(by_file.search) == list(by_override.search)


def test_a_dimension_that_is_not_there_cannot_be_taken_away(refusal: Refusal, valid: str) -> None:
    (line,) = refusal(valid, overrides=["search.loss.batch_norm=null"])

    assert line.startswith("--set search.loss.batch_norm")
