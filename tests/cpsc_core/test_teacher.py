import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cpsc_core import teacher as module
from cpsc_core.card import TeacherFolder, read_card, teacher_key
from cpsc_core.data.digits import DIGITS
from cpsc_core.data.labelled import LabelledImages, PlacedData
from cpsc_core.errors import TeacherError
from cpsc_core.evaluate import held_out_accuracy
from cpsc_core.images import ImageSpec
from cpsc_core.process import using_threads
from cpsc_core.settings import DataSettings, TeacherTraining
from cpsc_core.teacher import import_checkpoint, keep_teacher, load_teacher
from cpsc_core.teacher_training import TeacherReport, train_teacher
from cpsc_core.weights import build_network, save_tensors

DATA = DataSettings(name="digits")
SHORT = TeacherTraining(epochs=2, batch_size=64)
COLOUR = ImageSpec(num_classes=10, channels=3, size=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
PUBLIC_RESNET20 = "CPSC_PUBLIC_RESNET20"
"""Names the file resnet20-12fca82f.th of the collection pytorch_resnet_cifar10, where it is at hand."""
JPEG_CIFAR10 = "CPSC_JPEG_CIFAR10"
"""Names a folder with cifar10-test.parquet, the test images of CIFAR-10 as JPEG, where it is at hand."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with using_threads(1):
        yield


@pytest.fixture(scope="module")
def reports() -> list[TeacherReport]:
    return list(train_teacher("resnet8", DATA, SHORT, threads=1))


def keep(folder: Path, report: TeacherReport, origin: Any = SHORT) -> Any:
    probe = LabelledImages(torch.zeros(20, 1, 16, 16), torch.arange(20) % 10)
    return keep_teacher(
        folder, report.network, probe, arch="resnet8", data=DATA, accuracy=report.accuracy, origin=origin
    )


def test_a_kept_teacher_comes_back_frozen_and_to_the_bit(
    tmp_path: Path, reports: list[TeacherReport]
) -> None:
    card = keep(tmp_path, reports[-1])

    teacher = load_teacher(card.settings(tmp_path), DIGITS.spec)

    state = reports[-1].network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in teacher.state_dict().items())
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_the_card_says_what_the_teacher_is(tmp_path: Path, reports: list[TeacherReport]) -> None:
    card = keep(tmp_path, reports[-1])

    raw = json.loads((tmp_path / "card.json").read_text())
    assert read_card(tmp_path) == card
    assert raw["arch"] == "resnet8"
    assert (raw["accuracy"], raw["test_accuracy"]) == tuple(reports[-1].accuracy.values())
    assert raw["key"] == teacher_key("resnet8", DIGITS.fingerprint(), SHORT)
    assert (tuple(raw["mean"]), tuple(raw["std"])) == (DIGITS.spec.mean, DIGITS.spec.std)
    assert raw["training"]["epochs"] == 2
    assert raw["versions"]["torch"] == torch.__version__


def test_the_card_is_written_last(
    tmp_path: Path, reports: list[TeacherReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(folder: Path, card: Any) -> None:
        assert TeacherFolder(folder).weights.exists()
        assert TeacherFolder(folder).probe.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_card", die)
    with pytest.raises(KeyboardInterrupt):
        keep(tmp_path, reports[-1])

    assert read_card(tmp_path) is None


def test_a_given_teacher_is_kept_under_the_digest_of_its_file(
    tmp_path: Path, reports: list[TeacherReport]
) -> None:
    path = tmp_path / "given.safetensors"
    save_tensors(path, reports[-1].network.state_dict())
    network = import_checkpoint(path, "resnet8", DIGITS.spec)
    report = replace(reports[-1], network=network, accuracy=held_out_accuracy(network, PlacedData.of(DATA)))

    card = keep(tmp_path / "kept", report, origin=path)

    assert card.key == teacher_key("resnet8", DIGITS.fingerprint(), path)
    assert card.training is None
    assert report.accuracy == reports[-1].accuracy


def test_a_changed_weights_file_is_refused(tmp_path: Path, reports: list[TeacherReport]) -> None:
    settings = keep(tmp_path, reports[-1]).settings(tmp_path)
    path = TeacherFolder(tmp_path).weights
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(
        TeacherError, match=f"its digest is .*, but should be {settings.sha256[:12]}; restore"
    ):
        load_teacher(settings, DIGITS.spec)


def test_a_missing_weights_file_is_named(tmp_path: Path, reports: list[TeacherReport]) -> None:
    settings = keep(tmp_path, reports[-1]).settings(tmp_path)
    TeacherFolder(tmp_path).weights.unlink()

    with pytest.raises(TeacherError, match=r"teacher\.safetensors cannot be read: No such file"):
        load_teacher(settings, DIGITS.spec)


def test_a_teacher_for_other_classes_is_refused(tmp_path: Path, reports: list[TeacherReport]) -> None:
    settings = keep(tmp_path, reports[-1]).settings(tmp_path)

    complaint = (
        r"a classifier of 10 classes, where the data has 7\); name the data set it was trained on, or a"
    )
    with pytest.raises(TeacherError, match=complaint):
        load_teacher(settings, replace(DIGITS.spec, num_classes=7))


@pytest.mark.parametrize(("field", "word"), [("mean", "mean"), ("std", "deviation")])
def test_a_teacher_for_images_normalised_in_another_way_is_refused(
    tmp_path: Path, reports: list[TeacherReport], field: str, word: str
) -> None:
    settings = keep(tmp_path, reports[-1]).settings(tmp_path)
    own = getattr(DIGITS.spec, field)[0]
    complaint = (
        rf"teacher\.safetensors was trained on images normalised with {word} {own}, but those of the data "
        r"set are normalised with 0\.25; give the data set the teacher's normalisation, or train a teacher"
    )

    with pytest.raises(TeacherError, match=complaint):
        load_teacher(settings, replace(DIGITS.spec, **{field: (0.25,)}))


def test_a_teacher_of_unknown_normalisation_is_taken(tmp_path: Path, reports: list[TeacherReport]) -> None:
    settings = replace(keep(tmp_path, reports[-1]).settings(tmp_path), mean=None, std=None)

    assert load_teacher(settings, replace(DIGITS.spec, mean=(0.25,)))


def test_a_given_file_of_another_network_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "t.safetensors", build_network("resnet20", DIGITS.spec).state_dict())

    with pytest.raises(
        TeacherError, match=r"t\.safetensors is not a resnet8: layer1\.1\.bn1\.bias .* has no place in it"
    ):
        import_checkpoint(tmp_path / "t.safetensors", "resnet8", DIGITS.spec)


def old_gpu_checkpoint(path: Path) -> dict[str, Tensor]:
    """A file as the public CIFAR ResNets come in: saved on a GPU, in the format before zip archives, by a
    network inside DataParallel, with figures beside it; what its state dict holds.
    """
    state = build_network("resnet20", COLOUR).state_dict()
    content = {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "best_prec1": 91.7}
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    on_cpu, on_gpu = b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"
    assert on_cpu in buffer.getvalue()
    path.write_bytes(buffer.getvalue().replace(on_cpu, on_gpu))
    return state


def test_the_form_of_the_public_cifar_checkpoints_is_read(tmp_path: Path) -> None:
    path = tmp_path / "resnet20.th"
    state = old_gpu_checkpoint(path)

    teacher = import_checkpoint(path, "resnet20", COLOUR)

    assert all(torch.equal(tensor, state[name]) for name, tensor in teacher.state_dict().items())
    assert not teacher.training


@pytest.mark.skipif(PUBLIC_RESNET20 not in os.environ, reason=f"{PUBLIC_RESNET20} names no file")
def test_the_public_cifar_resnet20_is_read() -> None:
    path = Path(os.environ[PUBLIC_RESNET20])
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]

    teacher = import_checkpoint(path, "resnet20", COLOUR)

    assert all(torch.equal(teacher.state_dict()[name.removeprefix("module.")], state[name]) for name in state)
    assert teacher(torch.zeros(1, 3, 32, 32)).logits_BC.softmax(1).max() > 0.5


@pytest.mark.skipif(
    PUBLIC_RESNET20 not in os.environ or JPEG_CIFAR10 not in os.environ,
    reason=f"{PUBLIC_RESNET20} and {JPEG_CIFAR10} do not name a file and a folder",
)
def test_the_public_cifar_resnet20_scores_what_is_known_of_it() -> None:
    data = DataSettings(
        name="parquet",
        root=os.environ[JPEG_CIFAR10],
        test="cifar10-test.parquet",
        size=32,
        classes=10,
        mean=COLOUR.mean,
        std=COLOUR.std,
    )
    teacher = import_checkpoint(Path(os.environ[PUBLIC_RESNET20]), "resnet20", COLOUR)

    found = held_out_accuracy(teacher, PlacedData.of(data))

    assert sum(found.values()) / 2 == pytest.approx(0.810, abs=0.0005)
