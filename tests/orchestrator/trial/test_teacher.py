"""The teacher stage without Ray: what the process that makes a teacher says and leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from cpsc_core import probe, teacher_training
from cpsc_core.card import TeacherCard, TeacherFolder
from cpsc_core.data.digits import DIGITS
from cpsc_core.errors import TeacherError
from cpsc_core.settings import DataSettings, TeacherTraining
from cpsc_core.weights import build_network, save_tensors
from orchestrator.trial import teacher as module
from orchestrator.trial.teacher import TeacherWish

TRAINING = TeacherTraining(epochs=2, batch_size=64)


@pytest.fixture(scope="module", autouse=True)
def talkative() -> Iterator[None]:
    """Every epoch is told and saved, and probe images are rough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SECONDS_BETWEEN_LINES", -1.0)
        patch.setattr(teacher_training, "Keeping", partial(teacher_training.Keeping, every_seconds=0.0))
        patch.setattr(probe, "STEPS", 1)
        yield


@pytest.fixture(scope="module")
def trained(talkative: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage folder with a teacher in it."""
    folder = tmp_path_factory.mktemp("kept")
    assert prepared(wish(folder))[-1]
    return folder


def wish(kept_in: Path, **changes: object) -> TeacherWish:
    plain = TeacherWish(
        arch="resnet8",
        data=DataSettings(name="digits"),
        origin=TRAINING,
        expected_accuracy=None,
        kept_in=kept_in,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def prepared(what: TeacherWish) -> list[str | TeacherCard]:
    return list(module._prepare(what, 1, "cpu"))


def words(said: Iterator[str | TeacherCard] | list[str | TeacherCard]) -> str:
    return "\n".join(each for each in said if isinstance(each, str))


def test_a_teacher_is_trained_once_and_kept(trained: Path) -> None:
    said = prepared(wish(trained))

    card = said[-1]
    assert isinstance(card, TeacherCard)
    assert card.accuracy > 0.5
    assert card.splits["val"]["images"] == card.splits["test"]["images"] == 299
    assert "training" not in words(said)
    [folder] = trained.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [
        "card.json",
        "lease",
        "probe.safetensors",
        "teacher.safetensors",
    ]


def test_a_training_that_was_cut_off_goes_on(tmp_path: Path, trained: Path) -> None:
    cut_off = module._prepare(wish(tmp_path), 1, "cpu")
    for said in cut_off:
        if "epoch 1/2" in str(said):
            break
    cut_off.close()

    said = prepared(wish(tmp_path))

    assert "going on from epoch 1" in words(said)
    assert "epoch 1/2" not in words(said)
    [folder], [undisturbed] = tmp_path.iterdir(), trained.iterdir()
    assert TeacherFolder(folder).weights.read_bytes() == TeacherFolder(undisturbed).weights.read_bytes()
    assert not (folder / "training").exists()


def test_a_kept_teacher_that_scores_less_than_expected_is_refused(trained: Path) -> None:
    with pytest.raises(TeacherError, match=r"not what it should be: 100\.0% expected, \d\d\.\d% measured"):
        prepared(wish(trained, expected_accuracy=1.0))

    assert prepared(wish(trained, expected_accuracy=0.5))


def test_a_given_teacher_that_only_guesses_is_refused_and_not_kept(tmp_path: Path) -> None:
    given = tmp_path / "given.safetensors"
    save_tensors(given, build_network("resnet8", DIGITS.spec).state_dict())

    with pytest.raises(
        TeacherError, match=r"not what it should be: \d+\.\d% measured: no other normalisation"
    ):
        prepared(wish(tmp_path / "kept", origin=given))

    [folder] = (tmp_path / "kept").iterdir()
    assert not TeacherFolder(folder).card.exists()


def test_a_given_teacher_is_measured_before_it_is_kept(tmp_path: Path, trained: Path) -> None:
    [folder] = trained.iterdir()

    said = prepared(wish(tmp_path, origin=TeacherFolder(folder).weights, expected_accuracy=0.6))

    card = said[-1]
    assert isinstance(card, TeacherCard)
    assert card.training is None
    assert f"accuracy {card.accuracy:.4f} (val)" in words(said)
