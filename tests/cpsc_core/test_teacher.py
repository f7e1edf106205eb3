import io
import itertools
import json
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cpsc_core import teacher as module
from cpsc_core.card import TeacherFolder, read_card, teacher_key
from cpsc_core.data.digits import DIGITS
from cpsc_core.data.labelled import LabelledImages
from cpsc_core.errors import DivergedError, TeacherError
from cpsc_core.images import ImageSpec
from cpsc_core.process import using_threads
from cpsc_core.settings import DataSettings, TeacherTraining
from cpsc_core.teacher import (
    TeacherReport,
    held_out_accuracy,
    import_checkpoint,
    keep_teacher,
    load_teacher,
    train_teacher,
)
from cpsc_core.weights import build_network

DATA = DataSettings(name="digits")
SHORT = TeacherTraining(epochs=2, batch_size=64)
COLOUR = ImageSpec(num_classes=10, channels=3, size=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
PUBLIC_RESNET20 = "CPSC_PUBLIC_RESNET20"
"""Names the file resnet20-12fca82f.th of the collection pytorch_resnet_cifar10, where it is at hand."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with using_threads(1):
        yield


def train(training: TeacherTraining = SHORT, **options: Any) -> list[TeacherReport]:
    return list(train_teacher("resnet8", DATA, training, threads=1, **options))


@pytest.fixture(scope="module")
def reports() -> list[TeacherReport]:
    return train()


def keep(folder: Path, report: TeacherReport, origin: Any = SHORT) -> Any:
    probe = LabelledImages(torch.zeros(20, 1, 16, 16), torch.arange(20) % 10)
    return keep_teacher(
        folder, report.network, probe, arch="resnet8", data=DATA, accuracy=report.accuracy, origin=origin
    )


def weights(report: TeacherReport) -> Tensor:
    return torch.cat([tensor.double().flatten() for tensor in report.network.state_dict().values()])


def test_a_teacher_learns_and_tells_how_well(reports: list[TeacherReport]) -> None:
    first, last = reports

    assert [report.epoch for report in reports] == [1, 2]
    assert last.train_loss < first.train_loss < math.log(10)
    assert first.accuracy.keys() == {"val"}
    assert last.accuracy == held_out_accuracy(last.network, DATA)
    assert last.accuracy["val"] > 0.5


def test_training_depends_on_settings_and_not_on_what_ran_before(reports: list[TeacherReport]) -> None:
    torch.manual_seed(7)

    again = train()

    assert torch.equal(weights(again[-1]), weights(reports[-1]))
    assert [report.train_loss for report in again] == [report.train_loss for report in reports]


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"augment": False}, {"label_smoothing": 0.1}, {"momentum": 0.0}]
)
def test_every_setting_counts(reports: list[TeacherReport], change: dict[str, Any]) -> None:
    other = next(train_teacher("resnet8", DATA, replace(SHORT, **change), threads=1))

    assert other.train_loss != reports[0].train_loss


def test_every_step_is_a_sign_of_life() -> None:
    signs: list[int] = []

    next(train_teacher("resnet8", DATA, SHORT, threads=1, on_step=lambda: signs.append(1)))

    assert len(signs) == 1199 // SHORT.batch_size + 1


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    with pytest.raises(DivergedError, match="the teacher's loss stopped being finite in epoch 1"):
        train(replace(SHORT, lr=1e20))


def test_the_learning_rate_falls_from_its_peak_to_zero() -> None:
    images = LabelledImages(torch.zeros(40, 1, 16, 16), torch.zeros(40))
    batches = module._Batches(images, TeacherTraining(epochs=3, batch_size=8, lr=0.2), DIGITS.spec, False)

    rates = [batches.rate(epoch, step) for epoch in range(3) for step in range(batches.per_epoch)]

    assert rates == sorted(rates, reverse=True)
    assert (rates[0], batches.rate(3, 0)) == (0.2, 0.0)


@given(count=st.integers(1, 40), batch_size=st.integers(2, 50))
def test_an_epoch_shows_no_image_twice(count: int, batch_size: int) -> None:
    images = LabelledImages(torch.zeros(count, 1, 2, 2), torch.arange(count))
    training = TeacherTraining(batch_size=batch_size, augment=False)
    batches = module._Batches(images, training, DIGITS.spec, False)

    shown = [batch.labels_B.tolist() for batch in batches.of_epoch(0)]

    flat = list(itertools.chain(*shown))
    assert len(flat) == len(set(flat)) > count - batch_size
    assert {len(batch) for batch in shown} == {min(batch_size, count)}
    assert len(shown) == batches.per_epoch


def test_every_epoch_has_an_order_of_its_own() -> None:
    images = LabelledImages(torch.zeros(64, 1, 16, 16), torch.arange(64))
    batches = module._Batches(images, TeacherTraining(batch_size=64), DIGITS.spec, False)

    first, second, again = (next(batches.of_epoch(epoch)).labels_B.tolist() for epoch in (0, 1, 0))

    assert first == again != second
    assert sorted(first) == sorted(second) == list(range(64))


def test_a_crop_moves_black_in_from_the_border() -> None:
    images_BCHW = torch.rand(25, 2, 5, 4)
    black_C11 = torch.tensor([-1.0, -2.0]).view(2, 1, 1)
    shifts_2B = torch.tensor(list(itertools.product(range(5), range(5)))).T

    cropped_BCHW = module._crop(images_BCHW, shifts_2B, 2, black_C11)

    for image, crop, (down, right) in zip(images_BCHW, cropped_BCHW, shifts_2B.T.tolist(), strict=True):
        padded = torch.stack([F.pad(image[c], (2,) * 4, value=float(black_C11[c])) for c in range(2)])
        torch.testing.assert_close(crop, padded[:, down : down + 5, right : right + 4])


@pytest.mark.parametrize("flips", [True, False])
def test_images_are_mirrored_only_where_they_keep_their_class(flips: bool) -> None:
    size = DIGITS.spec.size
    ramp_BCHW = torch.arange(float(size)).expand(64, 1, size, size)
    images = LabelledImages(ramp_BCHW, torch.zeros(64))
    batches = module._Batches(images, TeacherTraining(batch_size=64), DIGITS.spec, flips)

    shown_BCHW = next(batches.of_epoch(0)).images_BCHW

    falling = int((shown_BCHW[:, 0, size // 2, 4] > shown_BCHW[:, 0, size // 2, 9]).sum())
    assert (10 < falling < 54) if flips else falling == 0


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
    path = tmp_path / "given.pt"
    torch.save(reports[-1].network.state_dict(), path)
    network = import_checkpoint(path, "resnet8", DIGITS.spec)
    report = replace(reports[-1], network=network, accuracy=held_out_accuracy(network, DATA))

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
    torch.save(build_network("resnet20", DIGITS.spec).state_dict(), tmp_path / "t.pt")

    with pytest.raises(
        TeacherError, match=r"t\.pt is not a resnet8: layer1\.1\.bn1\.bias .* has no place in it"
    ):
        import_checkpoint(tmp_path / "t.pt", "resnet8", DIGITS.spec)


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
