"""What only a CUDA device can show; `make gpu-check` runs it."""

import dataclasses
import gc
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from cpsc_core.distill.trainer import Trainer
from cpsc_core.images import ImageSpec
from cpsc_core.networks.wide_resnet import wrn16_1, wrn16_2
from cpsc_core.rank import ALONE, Rank
from cpsc_core.settings import GeneratorSettings, StudentSettings, TrainSettings
from tests.support.ranks import environment_of_ranks

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

IMAGE = ImageSpec(num_classes=4, channels=3, size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
SETTINGS = TrainSettings(
    epochs=2,
    iterations_per_epoch=2,
    batch_size=16,
    generator=GeneratorSettings(latent_dim=8, width=8, steps=2),
    student=StudentSettings(steps=2, lr=0.01),
)


@pytest.fixture(autouse=True)
def without_tf32() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def build(device: str = "cuda", rank: Rank = ALONE, **train: Any) -> Trainer:
    torch.manual_seed(0)
    teacher, student = (
        wrn16_2(num_classes=4, channels=3, size=16),
        wrn16_1(num_classes=4, channels=3, size=16),
    )
    settings = dataclasses.replace(SETTINGS, **train)
    return Trainer(settings, teacher=teacher, student=student, image=IMAGE, device=device, rank=rank)


def blind(student: nn.Module) -> Mapping[str, float]:
    return {}


def losses(trainer: Trainer) -> list[dict[str, float]]:
    """Of every epoch; rates and shares of the samples left out."""
    return [
        {name: value for name, value in report.metrics.items() if name.endswith(("_kl", "_loss"))}
        for report in trainer.fit(blind)
    ]


def iterate(trainer: Trainer) -> None:
    with trainer._student_held():
        for latents in trainer._latents("generator", 2):
            trainer._update_generator(*latents)
    for latents in trainer._latents("student", 2):
        trainer._update_student(*latents)
    trainer.iteration += 1


def test_the_first_losses_on_a_gpu_are_those_on_a_cpu() -> None:
    one = {"epochs": 1, "iterations_per_epoch": 1}

    (on_gpu,), (on_cpu,) = losses(build(**one)), losses(build("cpu", **one))

    assert on_gpu == pytest.approx(on_cpu, rel=1e-2)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_no_step_waits_for_the_gpu(precision: str) -> None:
    trainer = build(precision=precision)
    iterate(trainer)  # what is set up once may wait

    torch.cuda.set_sync_debug_mode("error")
    try:
        iterate(trainer)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_formats_have_nearly_the_losses_of_fp32(precision: str) -> None:
    half = build(precision=precision)
    for scaler in half.precision._scalers.values():  # so low that no update is left out
        scaler.load_state_dict(scaler.state_dict() and scaler.state_dict() | {"scale": 256.0})

    for ours, exact in zip(losses(half), losses(build()), strict=True):
        assert ours == pytest.approx(exact, rel=0.2)


def test_compiled_networks_have_nearly_the_losses_of_plain_ones() -> None:
    for ours, plain in zip(losses(build(compile=True)), losses(build()), strict=True):
        assert ours == pytest.approx(plain, rel=0.05)


def peak_of(trainer: Trainer) -> int:
    iterate(trainer)
    torch.cuda.reset_peak_memory_stats()
    iterate(trainer)
    return torch.cuda.max_memory_allocated()


def test_recomputing_takes_less_memory() -> None:
    usual = peak_of(build(batch_size=512))
    gc.collect()

    assert peak_of(build(batch_size=512, recompute=True)) < 0.7 * usual


def test_all_memory_is_given_back_after_a_trial() -> None:
    gc.collect()
    before = torch.cuda.memory_allocated()
    trainer = build()
    iterate(trainer)

    del trainer
    gc.collect()

    assert torch.cuda.memory_allocated() <= before + 2**20


def test_a_resumed_run_goes_on_where_it_stopped() -> None:
    whole, first, second = build(), build(), build()
    expected = losses(whole)

    next(iter(first.fit(blind)))
    second.load_state_dict(first.state_dict())

    assert losses(second) == [pytest.approx(expected[1], rel=1e-2)]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are not two CUDA devices")
def test_two_gpus_have_the_losses_of_one() -> None:
    context = torch.multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        of_both = pool.map(losses_on_rank, environment_of_ranks(2))

    for found in of_both:
        for ours, alone in zip(found, losses(build()), strict=True):
            assert ours == pytest.approx(alone, rel=1e-2)


def losses_on_rank(environment: dict[str, str]) -> list[dict[str, float]]:
    os.environ.update(environment)
    rank = Rank.from_environment(environment, device=None, timeout_seconds=60)
    try:
        return losses(build(rank.device, rank))
    finally:
        rank.leave()
