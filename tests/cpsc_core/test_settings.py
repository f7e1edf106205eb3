import ast
import inspect
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpsc_core import settings as module
from cpsc_core.errors import SettingsError
from cpsc_core.limits import field_limits
from cpsc_core.settings import (
    DataSettings,
    GeneratorSettings,
    LossSettings,
    StudentSettings,
    TeacherSettings,
    TeacherTraining,
    TrainSettings,
    TrialSettings,
    field_paths,
    replace_path,
)

LIMITED = [LossSettings, GeneratorSettings, StudentSettings, TrainSettings, TeacherTraining]
NOT_IN_IDENTITY = {
    "data.root",
    "teacher.weights",
    "teacher.probe",
    "teacher.accuracy",
    "teacher.mean",
    "teacher.std",
    "train.recompute",
} | {path for path in field_paths(TrialSettings) if path.startswith("data.") and path != "data.name"}
"""Where things are, what the digests of teacher and data stand for, and what changes no result."""


def number_fields() -> list[tuple[type[Any], str, Any]]:
    return [
        (owner, name, hint)
        for owner in LIMITED
        for name, hint in field_paths(owner).items()
        if "." not in name and field_limits(hint) != (-math.inf, math.inf)
    ]


def trial(**train: Any) -> TrialSettings:
    return TrialSettings(
        data=DataSettings(name="digits", root="/data"),
        data_fingerprint="f",
        teacher=TeacherSettings(
            arch="resnet20",
            weights="/t.safetensors",
            sha256="s",
            accuracy=0.9,
            probe="/p.safetensors",
            mean=(0.5,),
            std=(0.5,),
        ),
        student_arch="resnet8",
        train=TrainSettings(**train),
    )


@st.composite
def trials(draw: st.DrawFn) -> TrialSettings:
    made = trial()
    for path in ("train.loss.ikd", "train.loss.temperature", "train.generator.lr", "train.student.momentum"):
        made = replace_path(made, path, draw(st.floats(0.001, 0.999)))
    for path in ("train.epochs", "train.generator.steps", "train.student.warmup_epochs", "train.seed"):
        made = replace_path(made, path, draw(st.integers(1, 1000)))
    return replace_path(made, "splits", draw(st.sampled_from([("val",), ("val", "test")])))


def test_every_field_has_a_sentence_under_it() -> None:
    for owner in ast.parse(inspect.getsource(module)).body:
        if isinstance(owner, ast.ClassDef):
            for field, follower in zip(owner.body, [*owner.body[1:], None], strict=True):
                if isinstance(field, ast.AnnAssign):
                    sentence = isinstance(follower, ast.Expr) and isinstance(follower.value, ast.Constant)
                    assert sentence, f"{owner.name}.{ast.unparse(field.target)}"


@pytest.mark.parametrize(
    ("owner", "name", "hint"),
    number_fields(),
    ids=lambda value: getattr(value, "__name__", value if isinstance(value, str) else ""),
)
def test_a_number_below_its_limit_is_refused_by_name(owner: type[Any], name: str, hint: Any) -> None:
    low, _ = field_limits(hint)

    with pytest.raises(SettingsError, match=rf"^{name} must be (at least|greater than) "):
        owner(**{name: type(getattr(owner(), name))(low - 1)})


@pytest.mark.parametrize("momentum", [1.0, 1.5])
def test_a_number_above_its_limit_is_refused_by_name(momentum: float) -> None:
    with pytest.raises(SettingsError, match=r"^momentum must be less than 1\.0, but is"):
        StudentSettings(momentum=momentum)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(SettingsError, match="ikd must be a finite number"):
        LossSettings(ikd=value)


@pytest.mark.parametrize("value", [2.5, True, "3"])
def test_a_count_must_be_a_whole_number(value: Any) -> None:
    with pytest.raises(SettingsError, match="epochs must be a whole number"):
        TrainSettings(epochs=value)


def test_a_word_that_is_not_among_the_choices_is_refused_with_the_choices() -> None:
    with pytest.raises(SettingsError, match="precision must be one of fp32, bf16, fp16, but is 'fp17'"):
        TrainSettings(precision="fp17")  # type: ignore[arg-type]


@settings(max_examples=30)
@given(trials())
def test_settings_come_back_from_json(made: TrialSettings) -> None:
    assert TrialSettings.from_dict(json.loads(json.dumps(made.to_dict()))) == made


@settings(max_examples=30)
@given(trials(), st.randoms())
def test_the_order_of_keys_leaves_the_identity_alone(made: TrialSettings, chance: Any) -> None:
    def shuffled(raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        keys = list(raw)
        chance.shuffle(keys)
        return {key: shuffled(raw[key]) for key in keys}

    assert TrialSettings.from_dict(shuffled(made.to_dict())).identity() == made.identity()


@pytest.mark.parametrize("path", sorted(field_paths(TrialSettings)))
def test_the_identity_changes_with_every_field_but_places(path: str) -> None:
    before, value = trial(), trial()
    for name in path.split("."):
        value = getattr(value, name)
    other: Any = {
        str: "bf16" if path == "train.precision" else "log_mse",
        bool: True,
        int: 77,
        float: 0.123,
        tuple: ("test",),
        type(None): (0.5,),
    }[type(value)]

    after = replace_path(before, path, other)

    assert (after.identity() == before.identity()) == (path in NOT_IN_IDENTITY)


def test_the_identity_holds_the_values_of_fields_nobody_set() -> None:
    assert trial().identity() == trial(epochs=600, loss=LossSettings(ikd=5.0)).identity()


def test_a_whole_number_and_the_same_fraction_are_one_setting() -> None:
    assert trial(loss=LossSettings(ikd=5)).identity() == trial(loss=LossSettings(ikd=5.0)).identity()


def test_an_unknown_setting_is_refused_by_its_full_path() -> None:
    raw = trial().to_dict()
    raw["train"]["loss"]["adverserial"] = 1.0

    with pytest.raises(
        SettingsError, match=r"unknown setting train\.loss\.adverserial; LossSettings has ikd"
    ):
        TrialSettings.from_dict(raw)


def test_a_missing_setting_is_named() -> None:
    raw = trial().to_dict()
    del raw["student_arch"]

    with pytest.raises(SettingsError, match="student_arch"):
        TrialSettings.from_dict(raw)


def test_a_value_in_place_of_a_group_is_refused_by_its_path() -> None:
    with pytest.raises(SettingsError, match=r"train\.loss must be a mapping, but is 5"):
        TrialSettings.from_dict(trial().to_dict() | {"train": {"loss": 5}})


def test_replacing_a_path_leaves_the_rest_alone() -> None:
    after = replace_path(trial(), "train.loss.ikd", 2.0)

    assert after.train.loss.ikd == 2.0
    assert replace_path(after, "train.loss.ikd", 5.0) == trial()


def test_replacing_a_path_that_leads_nowhere_names_the_place() -> None:
    with pytest.raises(SettingsError, match="LossSettings has no field 'idk'"):
        replace_path(trial(), "train.loss.idk", 2.0)
