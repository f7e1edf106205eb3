"""The faithful preset takes the same two iterations as the released implementation, weight for weight."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cpsc_core.distill.draws import Latents
from cpsc_core.distill.trainer import Trainer
from cpsc_core.images import ImageSpec
from cpsc_core.networks.wide_resnet import wrn16_1
from cpsc_core.settings import GeneratorSettings, LossSettings, StudentSettings, TrainSettings

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "golden/faithful_trajectory.json").read_text()
)
IMAGE = ImageSpec(num_classes=5, channels=3, size=32, mean=(0.5,) * 3, std=(0.5,) * 3)

GENERATOR_PARTS = {
    "l1.0": "linear",
    "conv_blocks0_0": "norm0",
    "conv_blocks1_0": "conv1",
    "conv_blocks1_1": "norm1",
    "conv_blocks2_0": "conv2",
    "conv_blocks2_1": "norm2",
    "conv_blocks3_0": "conv3",
    "conv_blocks3_2": "norm3",
}
CONDITIONAL_NORM_PARTS = {"weights": "scale", "biases": "shift"}


def our_generator_name(official: str) -> str:
    part, _, leaf = official.rpartition(".")
    part, _, embedding = part.partition(".") if part.endswith((".weights", ".biases")) else (part, "", "")
    if embedding:
        return f"{GENERATOR_PARTS[part]}.{CONDITIONAL_NORM_PARTS[embedding]}.{leaf}"
    statistics = ".norm" if leaf.startswith(("running", "num_batches")) else ""
    return f"{GENERATOR_PARTS[part]}{statistics}.{leaf}"


def our_network_name(official: str) -> str:
    return official.replace(".layer.", ".").replace("convShortcut", "shortcut")


OUR_NAME: Mapping[str, Callable[[str], str]] = {
    "generator": our_generator_name,
    "teacher": our_network_name,
    "student": our_network_name,
}


def initialise(network: nn.Module, player: str) -> None:
    """The rule of the golden file: numpy draws in the sorted order of the official names."""
    chance = np.random.RandomState(GOLDEN["init"]["seeds"][player])
    state = network.state_dict()
    for official in sorted(GOLDEN["initial"][player]):
        tensor = state.pop(OUR_NAME[player](official))
        assert list(tensor.shape) == GOLDEN["initial"][player][official]["shape"]
        if not official.endswith("num_batches_tracked"):
            tensor.copy_(torch.from_numpy(_initial(official, chance.standard_normal(tuple(tensor.shape)))))
    assert not state


def _initial(official: str, n: np.ndarray) -> np.ndarray:
    if official.endswith("running_var"):
        return 1 + 0.5 * abs(n)
    if official.endswith("running_mean"):
        return 0.3 * n
    if official.endswith("weights.weight"):
        return 1 + 0.2 * n
    if official.endswith("biases.weight"):
        return 0.2 * n
    if n.ndim == 1:
        return 1 + 0.1 * n if official.endswith("weight") else 0.1 * n
    return n / math.sqrt(n[0].size)


class OfficialNoise:
    """One numpy stream, read in the order of the calls."""

    def __init__(self) -> None:
        self.chance = np.random.RandomState(4)

    def __call__(self, purpose: str, epoch: int, step: int) -> Latents:
        latents = self.chance.standard_normal((8, 16))
        return Latents(torch.from_numpy(latents), torch.from_numpy(self.chance.randint(0, 5, 8)))


def golden_settings(ikd_form: str) -> TrainSettings:
    golden = GOLDEN["settings"]
    return TrainSettings(
        preset="faithful",
        epochs=1,
        iterations_per_epoch=2,
        batch_size=golden["batch"],
        loss=LossSettings(
            ikd=golden["alpha_ikd"],
            ikd_form=ikd_form,  # type: ignore[arg-type]
            batch_norm=golden["beta_bn"],
            contrastive=golden["gamma_scl"],
            pseudo_label=golden["eta_ce"],
            temperature=golden["temperature"],
        ),
        generator=GeneratorSettings(latent_dim=golden["latent"], steps=2, lr=golden["lr_generator"]),
        student=StudentSettings(
            steps=2,
            lr=golden["lr_student"],
            momentum=golden["momentum"],
            weight_decay=golden["weight_decay"],
            warmup_epochs=0,
        ),
    )


def golden_trainer(ikd_form: str) -> Trainer:
    teacher, student = (wrn16_1(num_classes=5, channels=3, size=32).double() for _ in range(2))
    initialise(teacher, "teacher")
    initialise(student, "student")
    trainer = Trainer(
        golden_settings(ikd_form), teacher=teacher, student=student, image=IMAGE, draws=OfficialNoise()
    )
    initialise(trainer.generator.double(), "generator")
    return trainer


def assert_summary(tensor: Tensor, golden: Mapping[str, Any], tolerance: float = 1e-8) -> None:
    flat = tensor.detach().double().flatten()
    assert list(tensor.shape) == golden["shape"]
    assert flat[:6].tolist() == pytest.approx(golden["first"], abs=tolerance, rel=tolerance)
    assert flat.sum().item() == pytest.approx(
        golden["sum"], abs=tolerance * math.sqrt(flat.numel()), rel=tolerance
    )
    assert flat.abs().sum().item() == pytest.approx(golden["abs_sum"], rel=tolerance)


@pytest.mark.parametrize("player", ["generator", "teacher", "student"])
def test_the_networks_start_from_the_golden_weights(player: str) -> None:
    state = getattr(golden_trainer("mse"), player).state_dict()

    for official, golden in GOLDEN["initial"][player].items():
        assert_summary(state[OUR_NAME[player](official)], golden, tolerance=1e-12)


def test_a_forward_pass_equals_the_golden_one() -> None:
    golden, trainer = GOLDEN["forward"], golden_trainer("mse")
    latents_BZ = torch.from_numpy(np.random.RandomState(9).standard_normal((4, 16)))
    labels_B = torch.tensor([0, 1, 4, 2])

    eval_BCHW = trainer.generator.eval()(latents_BZ, labels_B)
    images_BCHW = trainer.generator.train()(latents_BZ, labels_B)
    teacher, student = trainer.teacher(images_BCHW), trainer.student(images_BCHW)

    assert_summary(eval_BCHW, golden["image_eval"])
    assert_summary(images_BCHW, golden["image_train"])
    for output, name in ((teacher, "teacher"), (student, "student")):
        np.testing.assert_allclose(output.logits_BC.detach(), golden[f"{name}_logits"], rtol=0, atol=1e-8)
        features_BD = nn.functional.normalize(output.features_BD)
        assert features_BD.abs().sum().item() == pytest.approx(golden[f"{name}_features_sum_abs"], abs=1e-8)


@pytest.mark.parametrize("ikd_form", ["mse", "log_mse"])
def test_two_iterations_end_at_the_golden_weights_and_losses(
    ikd_form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpsc_core.distill.trainer.NUM_SAMPLES", 5)
    golden, trainer = GOLDEN[f"after_{ikd_form}_form"], golden_trainer(ikd_form)

    (report,) = trainer.fit(lambda student: {})

    assert report.metrics["generator_loss"] == pytest.approx(golden["mean_generator_loss"], rel=1e-6)
    assert report.metrics["student_loss"] == pytest.approx(golden["mean_student_loss"], abs=1e-6)
    assert report.metrics["student_lr"] == GOLDEN["settings"]["lr_student"]
    for player in ("generator", "student"):
        state = getattr(trainer, player).state_dict()
        for official, expected in golden[player].items():
            assert_summary(state[OUR_NAME[player](official)], expected)
