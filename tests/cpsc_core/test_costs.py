from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cpsc_core.attempt import CLOCK_KEYS, AttemptPaths
from cpsc_core.costs import costs_of, latency, parameters, peak_memory_gb, watch_memory
from cpsc_core.data.digits import DIGITS
from cpsc_core.weights import build_network
from tests.support.trials import finish, tiny_teacher, tiny_trial

CPU = torch.device("cpu")


def ticking(*durations: float) -> Iterator[float]:
    """A clock that shows each duration passing between two looks at it."""
    now = 0.0
    for duration in durations:
        yield now
        now += duration
        yield now


def test_latency_is_the_median_of_what_single_images_took_after_warming_up() -> None:
    seen: list[tuple[int, ...]] = []
    network = build_network("resnet8", DIGITS.spec)
    network.register_forward_pre_hook(lambda _, images: seen.append(tuple(images[0].shape)))
    clock = ticking(9.0, 9.0, 9.0, *[0.1] * 9, 0.2, 0.4, *[5.0] * 9)

    assert latency(network, DIGITS.spec, CPU, clock=lambda: next(clock)) == pytest.approx(0.3)
    assert set(seen) == {(1, 1, 16, 16)}


def test_measuring_leaves_a_network_as_it_was() -> None:
    network = build_network("resnet8", DIGITS.spec).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    chance = torch.get_rng_state()

    costs_of(network, DIGITS.spec)

    assert network.training
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_parameters_are_counted_by_hand() -> None:
    assert parameters(nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))) == 3 * 5 * 9 + 5 + 2 * 5


def test_the_peak_of_memory_is_that_since_it_is_watched() -> None:
    def taken() -> float:
        held = torch.ones(64, 1024, 1024)
        del held
        watch_memory(CPU)
        before = peak_memory_gb(CPU)
        held = torch.ones(32, 1024, 1024)
        del held
        return peak_memory_gb(CPU) - before

    # A kernel may take as much of what lay idle in this process meanwhile, but not again and again.
    most = max(taken() for _ in range(4))

    assert 0.9 * 32 * 4 / 1e3 < most < 0.25


def test_where_the_kernel_does_not_forget_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(Path, "write_text", refuse)
    with caplog.at_level(logging.WARNING):
        watch_memory(CPU)

    assert caplog.messages == ["peak_memory_gb counts from the start of the process, not of the trial: no"]


def test_a_finished_trial_knows_what_its_student_costs(tmp_path: Path) -> None:
    attempt: AttemptPaths = finish(tiny_trial(tiny_teacher(tmp_path)), tmp_path / "trial")

    costs = json.loads(attempt.costs.read_text())
    assert costs.keys() == {"student_parameters", "latency", "peak_memory_gb"}
    assert costs["student_parameters"] == parameters(build_network("resnet8", DIGITS.spec))
    assert 0 < costs["latency"] < 10
    assert 0.01 < costs["peak_memory_gb"] < 100
    assert costs.keys() - {"student_parameters"} <= CLOCK_KEYS


@pytest.mark.gpu
def test_on_a_gpu_the_peak_is_that_of_its_tensors() -> None:
    device = torch.device("cuda")
    watch_memory(device)
    before = peak_memory_gb(device)

    held = torch.ones(32, 1024, 1024, device=device)

    assert peak_memory_gb(device) - before == pytest.approx(32 * 4 * 1024**2 / 1e9, rel=0.1)
    del held
