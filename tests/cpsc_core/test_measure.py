from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from cpsc_core import measure as module
from cpsc_core.images import ImageSpec
from cpsc_core.measure import measure
from cpsc_core.networks.cifar_resnet import resnet20
from cpsc_core.settings import GeneratorSettings, StudentSettings, TrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGE = ImageSpec(num_classes=3, channels=1, size=16, mean=(0.5,), std=(0.5,))
TRAIN = TrainSettings(
    batch_size=16,
    generator=GeneratorSettings(width=4, latent_dim=4, steps=1),
    student=StudentSettings(steps=1),
)


def test_a_fast_machine_is_timed_at_the_batch_size_that_was_asked_for() -> None:
    found = measure(TRAIN, teacher="resnet8", student="resnet8", image=IMAGE, seconds=60.0)

    assert found.measured_batch_size == 16
    assert 0 < found.seconds_per_iteration < 10


def test_on_a_slow_machine_the_time_of_a_small_batch_is_scaled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at this clock finds a second gone by."""
    ticks = iter(range(10_000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(ticks)))

    found = measure(TRAIN, teacher="resnet8", student="resnet8", image=IMAGE, seconds=0.5)

    assert found.measured_batch_size == 8
    assert found.seconds_per_iteration == 2.0


def test_sizes_are_those_of_the_networks() -> None:
    found = measure(TRAIN, teacher="resnet20", student="resnet8", image=IMAGE, seconds=0.0)

    teacher = resnet20(num_classes=3, channels=1, size=16)
    assert found.teacher_parameters == sum(each.numel() for each in teacher.parameters())
    assert found.student_parameters < found.teacher_parameters
    assert found.weights_bytes >= 4 * (found.student_parameters + found.generator_parameters)
    # Adam keeps two numbers per weight beside it, SGD with momentum one.
    moments = 4 * (3 * found.generator_parameters + 2 * found.student_parameters)
    assert found.checkpoint_bytes == pytest.approx(moments, rel=0.5)
    assert found.samples_bytes % (IMAGE.size**2) == 0


def asked(teacher: str) -> subprocess.CompletedProcess[str]:
    """What a process of its own answers to a request."""
    request = {
        "train": asdict(TRAIN),
        "teacher": teacher,
        "student": "resnet8",
        "data": {"name": "digits"},
        "threads": 1,
        "seconds": 0.0,
    }
    return subprocess.run(
        [sys.executable, "-m", "cpsc_core.measure"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_request_is_answered_with_one_json_document() -> None:
    found = json.loads(asked("resnet8").stdout)

    assert found["threads"] == 1
    assert found["seconds_per_iteration"] > 0


def test_what_cannot_be_measured_is_told_in_a_line() -> None:
    answer = asked("resnet9")

    assert answer.returncode == 1
    assert answer.stderr.startswith("error: no network is called 'resnet9'")
    assert len(answer.stderr.splitlines()) == 1
