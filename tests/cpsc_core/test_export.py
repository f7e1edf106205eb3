"""A student as a file for others: read back, compared, refused if it answers differently."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cpsc_core import export
from cpsc_core.data.digits import DIGITS
from cpsc_core.errors import ExportError
from cpsc_core.export import export_student
from cpsc_core.settings import TrialSettings
from cpsc_core.student import load_student
from cpsc_core.weights import build_network, parse_tensors, read_file, save_tensors
from tests.support.students import trial_settings


@pytest.fixture
def settings(tmp_path: Path) -> TrialSettings:
    return trial_settings(tmp_path)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    save_tensors(tmp_path / "student.safetensors", build_network("resnet8", DIGITS.spec).state_dict())
    return tmp_path / "student.safetensors"


def test_safetensors_hold_the_students_own_weights(
    settings: TrialSettings, weights: Path, tmp_path: Path
) -> None:
    found = export_student(settings.to_dict(), weights, to="safetensors", folder=tmp_path / "out")

    written = tmp_path / "out" / "student.safetensors"
    before, after = (parse_tensors(read_file(path), path) for path in (weights, written))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert found.largest_difference == 0.0
    assert found.bytes == written.stat().st_size
    assert found.parameters == sum(
        tensor.numel()
        for name, tensor in before.items()
        if "running" not in name and "num_batches" not in name
    )


def test_the_folder_says_what_the_student_takes(
    settings: TrialSettings, weights: Path, tmp_path: Path
) -> None:
    export_student(settings.to_dict(), weights, to="safetensors", folder=tmp_path / "out")

    facts = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (facts["arch"], facts["channels"], facts["size"], facts["num_classes"]) == ("resnet8", 1, 16, 10)
    assert facts["mean"] == list(DIGITS.spec.mean)
    assert facts["class_names"] == list(DIGITS.class_names)


def test_onnx_answers_as_the_student_for_any_number_of_images(
    settings: TrialSettings, weights: Path, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")

    found = export_student(settings.to_dict(), weights, to="onnx", folder=tmp_path / "out")

    session = onnxruntime.InferenceSession(tmp_path / "out" / "student.onnx")
    student = load_student(settings.to_dict(), weights)
    for count in (1, 5, 64):
        images = np.random.default_rng(count).standard_normal((count, 1, 16, 16), dtype=np.float32)
        (logits,) = session.run(None, {"images": images})
        with torch.no_grad():
            wanted = student(torch.from_numpy(images)).logits_BC.numpy()
        np.testing.assert_allclose(logits, wanted, rtol=1e-3, atol=1e-4)
    assert found.largest_difference < 1e-3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "student.onnx"]


def test_a_file_that_answers_differently_is_not_kept(
    settings: TrialSettings, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def corrupt(student: object, folder: Path, _: object) -> object:
        path = folder / "student.bad"
        path.write_bytes(b"x")
        return path, lambda images: torch.ones(len(images), 10)

    monkeypatch.setattr(export, "FORMATS", {"bad": corrupt})

    with pytest.raises(ExportError, match=r"student\.bad does not answer as the student does: for 1 image"):
        export_student(settings.to_dict(), weights, to="bad", folder=tmp_path / "out")

    assert list((tmp_path / "out").iterdir()) == []


def test_an_unknown_format_is_refused_with_those_there_are(
    settings: TrialSettings, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="no format 'tflite'; choose one of onnx, safetensors"):
        export_student(settings.to_dict(), weights, to="tflite", folder=tmp_path)


def test_a_missing_package_is_told_with_how_to_get_it(
    settings: TrialSettings, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)

    with pytest.raises(ExportError, match=r"pip install 'cpsc-orchestrate\[onnx\]', or use --to safetensors"):
        export_student(settings.to_dict(), weights, to="onnx", folder=tmp_path / "out")
