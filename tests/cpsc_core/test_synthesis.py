"""Synthetic images as a data set: balanced, repeatable, labelled by the teacher, readable by our reader."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from cpsc_core import synthesis
from cpsc_core.data.digits import DIGITS
from cpsc_core.data.labelled import PlacedData
from cpsc_core.distill.generator import Generator
from cpsc_core.errors import ExportError
from cpsc_core.networks.output import Output
from cpsc_core.settings import DataSettings, TeacherTraining, TrialSettings
from cpsc_core.synthesis import Synthesis, synthesise
from cpsc_core.teacher import load_teacher
from cpsc_core.teacher_training import train_teacher
from cpsc_core.weights import save_tensors
from tests.support.students import trial_settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TrialSettings:
    return trial_settings(tmp_path_factory.mktemp("trial"))


@pytest.fixture(scope="module")
def generator(settings: TrialSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(4)
    path = tmp_path_factory.mktemp("generator") / "generator.safetensors"
    save_tensors(path, Generator(settings.train.generator, DIGITS.spec).state_dict())
    return path


class Rotating(torch.nn.Module):
    """A teacher that sees class 0, 1, 2, ... in turn, whatever it is shown."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.feature_dim = network.feature_dim

    def forward(self, images_BCHW: torch.Tensor) -> Output:
        logits_BC = torch.nn.functional.one_hot(torch.arange(len(images_BCHW)) % 10, 10).float()
        return Output(logits_BC, self.network(images_BCHW).features_BD)


@pytest.fixture
def _sees_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "load_teacher", lambda *given: Rotating(load_teacher(*given)))


def write(
    settings: TrialSettings, generator: Path, folder: Path, train: int = 100, test: int = 10
) -> Synthesis:
    return synthesise(settings.to_dict(), generator, folder=folder, train=train, test=test)


@pytest.mark.usefixtures("_sees_every_class")
def test_there_are_as_many_images_of_each_class(
    settings: TrialSettings, generator: Path, tmp_path: Path
) -> None:
    found = write(settings, generator, tmp_path, train=103)

    labels = pq.read_table(tmp_path / "train-00000-of-00001.parquet")["label"].to_pylist()
    assert sorted(Counter(labels).values()) == [10] * 7 + [11] * 3
    assert found.images == {"train": 103, "test": 20}
    assert found.drawn >= 123


@pytest.mark.usefixtures("_sees_every_class")
def test_the_project_reads_back_what_was_written(
    settings: TrialSettings, generator: Path, tmp_path: Path
) -> None:
    found = write(settings, generator, tmp_path)

    block = dict(found.data)
    statistics = block.pop("normalization")
    block |= {"classes": tuple(block["classes"])} | {key: tuple(value) for key, value in statistics.items()}
    placed = PlacedData.of(DataSettings(**block))
    train, test, val = (placed.load(split) for split in ("train", "test", "val"))
    assert (len(train), len(test) + len(val)) == (100, 20)
    assert placed.spec == DIGITS.spec
    rows = pq.read_table(tmp_path / "train-00000-of-00001.parquet")
    picture = np.asarray(Image.open(io.BytesIO(rows["image"][0].as_py()["bytes"])))
    (first,) = (batch for batch in list(train.batches(100))[:1])
    expected = (picture / 255.0 - DIGITS.spec.mean[0]) / DIGITS.spec.std[0]
    np.testing.assert_allclose(first.images_BCHW[0, 0].numpy(), expected, atol=1e-5)
    assert first.labels_B.tolist() == rows["label"].to_pylist()


class Measuring(Rotating):
    """A teacher whose answer is a function of the image's mean, so that it can be asked again."""

    def forward(self, images_BCHW: torch.Tensor) -> Output:
        means_B1 = images_BCHW.double().mean((1, 2, 3))[:, None]
        logits_BC = torch.cos(300.0 * means_B1 * torch.arange(1, 11)).float()
        return Output(logits_BC, self.network(images_BCHW).features_BD)


@pytest.fixture
def _measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "load_teacher", lambda *given: Measuring(load_teacher(*given)))


@pytest.mark.usefixtures("_measures")
def test_label_and_logits_are_what_the_teacher_says_of_the_image_in_the_file(
    settings: TrialSettings, generator: Path, tmp_path: Path
) -> None:
    write(settings, generator, tmp_path, train=20)

    rows = pq.read_table(tmp_path / "train-00000-of-00001.parquet")
    pictures = [np.asarray(Image.open(io.BytesIO(cell.as_py()["bytes"]))) for cell in rows["image"]]
    normal = (np.stack(pictures) / 255.0 - DIGITS.spec.mean[0]) / DIGITS.spec.std[0]
    expected = np.cos(300.0 * normal.mean((1, 2))[:, None] * np.arange(1, 11))
    np.testing.assert_allclose(rows["teacher_logits"].to_pylist(), expected, atol=1e-3)
    assert rows["label"].to_pylist() == expected.argmax(1).tolist()


@pytest.mark.usefixtures("_sees_every_class")
def test_the_same_images_come_whenever_they_are_asked_for(
    settings: TrialSettings, generator: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        write(settings, generator, tmp_path / name)

    tables = [pq.read_table(tmp_path / name / "train-00000-of-00001.parquet") for name in ("one", "two")]
    assert tables[0].equals(tables[1])


@pytest.mark.usefixtures("_sees_every_class")
def test_the_schema_is_that_of_the_hugging_face_library(
    settings: TrialSettings, generator: Path, tmp_path: Path
) -> None:
    write(settings, generator, tmp_path)

    schema = pq.read_schema(tmp_path / "test-00000-of-00001.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"_type": "ClassLabel", "names": list(DIGITS.class_names)}
    assert str(schema.field("image").type) == "struct<bytes: binary, path: string>"


def test_a_class_that_the_generator_hardly_makes_is_named(
    settings: TrialSettings, generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "_DRAWN_AT_MOST", 2)

    with pytest.raises(ExportError, match=r"of class \d are still lacking after \d+ draws"):
        write(settings, generator, tmp_path)

    assert list(tmp_path.glob("*.parquet")) == []


@pytest.mark.usefixtures("_sees_every_class")
def test_an_export_that_is_interrupted_leaves_the_images_of_before(
    settings: TrialSettings, generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(settings, generator, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    png, drawn = synthesis._png, []

    def interrupted(pixels_CHW: torch.Tensor) -> bytes:
        drawn.append(1)
        if len(drawn) == 110:  # in the second file
            raise KeyboardInterrupt
        return png(pixels_CHW)

    monkeypatch.setattr(synthesis, "_png", interrupted)

    with pytest.raises(KeyboardInterrupt):
        write(settings, generator, tmp_path, train=100)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_fewer_images_than_classes_are_refused(
    settings: TrialSettings, generator: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="9 images are too few for 10 classes"):
        write(settings, generator, tmp_path, train=9)


@pytest.mark.slow
@pytest.mark.usefixtures("_measures")
def test_a_network_is_trained_on_what_was_written(
    settings: TrialSettings, generator: Path, tmp_path: Path
) -> None:
    found = write(settings, generator, tmp_path, train=400, test=40)
    block = dict(found.data)
    statistics = block.pop("normalization")
    block |= {"classes": tuple(block["classes"])} | {key: tuple(value) for key, value in statistics.items()}
    training = TeacherTraining(epochs=2, batch_size=32)

    reports = list(train_teacher("resnet8", DataSettings(**block), training, threads=1, device="cpu"))

    assert [report.epoch for report in reports] == [1, 2]
    assert 0.0 <= reports[-1].accuracy["val"] <= 1.0
