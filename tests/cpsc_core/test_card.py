import json
from dataclasses import replace
from pathlib import Path

import pytest

from cpsc_core.card import TeacherCard, TeacherFolder, read_card, teacher_key, write_card
from cpsc_core.errors import TeacherError
from cpsc_core.settings import TeacherTraining

CARD = TeacherCard(
    key="k",
    arch="resnet20",
    num_classes=10,
    sha256="s",
    accuracy=0.99,
    test_accuracy=0.98,
    data="digits",
    data_fingerprint="f",
    splits={"val": {"images": 7, "rows_sha256": "r"}},
    mean=(0.3, 0.4, 0.5),
    std=(0.1, 0.2, 0.3),
    training={"epochs": 3},
    probe_share=1.0,
    versions={"torch": "2"},
)


def test_a_card_comes_back(tmp_path: Path) -> None:
    write_card(tmp_path, CARD)

    assert read_card(tmp_path) == CARD


def test_a_folder_without_a_card_is_not_whole(tmp_path: Path) -> None:
    TeacherFolder(tmp_path).weights.touch()

    assert read_card(tmp_path) is None


@pytest.mark.parametrize("content", ["", "[]", '{"key": "k"}', json.dumps({"no": "card"})])
def test_a_damaged_card_is_refused_with_what_to_do(tmp_path: Path, content: str) -> None:
    TeacherFolder(tmp_path).card.write_text(content)

    with pytest.raises(TeacherError, match=r"card\.json is damaged .*; remove .* to have it made again"):
        read_card(tmp_path)


def test_a_card_tells_a_trial_all_it_must_know(tmp_path: Path) -> None:
    settings = CARD.settings(tmp_path)

    assert (settings.arch, settings.sha256, settings.accuracy) == ("resnet20", "s", 0.99)
    assert (settings.mean, settings.std) == ((0.3, 0.4, 0.5), (0.1, 0.2, 0.3))
    assert settings.weights == str(tmp_path / "teacher.safetensors")
    assert settings.probe == str(tmp_path / "probe.safetensors")


def test_a_trained_teacher_is_known_by_all_that_decides_its_weights() -> None:
    training = TeacherTraining()
    keys = {
        teacher_key("resnet20", "f", training),
        teacher_key("resnet8", "f", training),
        teacher_key("resnet20", "g", training),
        teacher_key("resnet20", "f", replace(training, seed=1)),
    }

    assert len(keys) == 4
    assert teacher_key("resnet20", "f", TeacherTraining()) in keys


def test_a_given_teacher_is_known_by_content_wherever_it_lies(tmp_path: Path) -> None:
    for name, content in (("a.pt", b"1"), ("b.pt", b"1"), ("c.pt", b"2")):
        (tmp_path / name).write_bytes(content)

    first, same, other = (teacher_key("resnet20", "f", tmp_path / name) for name in ("a.pt", "b.pt", "c.pt"))

    assert first == same != other


def test_a_given_teacher_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"none\.pt cannot be read: No such file"):
        teacher_key("resnet20", "f", tmp_path / "none.pt")
