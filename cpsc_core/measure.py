"""How fast this machine trains and how much it writes: `python -m cpsc_core.measure < request.json`.

A request holds `train` and `data` (settings as JSON), `teacher` and `student` (names of the table), `threads`
and `seconds`; the answer is a Measurement as JSON. The networks are untrained: no speed depends on that.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from cpsc_core.data.labelled import PlacedData
from cpsc_core.errors import CoreError
from cpsc_core.images import ImageSpec
from cpsc_core.settings import DataSettings, GeneratorSettings, LossSettings, StudentSettings, TrainSettings
from cpsc_core.tables import METHODS, lookup
from cpsc_core.weights import build_network

__all__ = ["Measurement", "measure"]

_SMALLEST_BATCH = 8
_GROWTH = 4
_ITERATIONS_AT_LEAST = 2
_ITERATIONS_AT_MOST = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one process does and writes."""

    seconds_per_iteration: float
    """Generator and student steps of one iteration, at the batch size that was asked for."""
    measured_batch_size: int
    """Batch size that was timed; if it is smaller than asked for, the time was scaled in proportion."""
    threads: int
    """CPU threads it was timed with."""
    teacher_parameters: int
    """Numbers the teacher learned."""
    student_parameters: int
    """Numbers the student learns."""
    generator_parameters: int
    """Numbers the generator learns."""
    checkpoint_bytes: int
    """Size of one checkpoint."""
    weights_bytes: int
    """Size of the student's and the generator's weights together."""
    samples_bytes: int
    """Size of one grid of samples before compression."""


def measure(
    train: TrainSettings, *, teacher: str, student: str, image: ImageSpec, seconds: float
) -> Measurement:
    """Time iterations at growing batch sizes, up to the asked one or until the next takes over `seconds`.

    Nothing is compiled, which would take longer than all of it: with `compile` a trial is faster than this.
    """
    train = replace(train, compile=False)
    batch = min(_SMALLEST_BATCH, train.batch_size)
    while True:
        networks = {"teacher": build_network(teacher, image), "student": build_network(student, image)}
        trainer, per_iteration = _time(replace(train, batch_size=batch), networks, image, seconds)
        larger = min(batch * _GROWTH, train.batch_size)
        if larger == batch or _ITERATIONS_AT_LEAST * per_iteration * larger / batch > seconds:
            return _describe(trainer, batch, per_iteration * train.batch_size / batch)
        batch = larger


def _time(
    train: TrainSettings, networks: Mapping[str, nn.Module], image: ImageSpec, seconds: float
) -> tuple[Any, float]:
    """A trainer after a few iterations, and the mean time of each; the first, which warms up, is left out."""
    ends: list[float] = []
    started = False

    def has_enough() -> bool:
        nonlocal started
        if started:
            ends.append(time.perf_counter())
        started = True
        late = len(ends) >= _ITERATIONS_AT_LEAST and ends[-1] - ends[0] > seconds
        return late or len(ends) >= _ITERATIONS_AT_MOST

    trainer = lookup(METHODS, train.method)(
        replace(train, iterations_per_epoch=_ITERATIONS_AT_MOST + 1),
        **networks,
        image=image,
        should_stop=has_enough,
    )
    for _ in trainer.fit(lambda _student: {}):
        raise AssertionError("the epoch is longer than what is timed")
    return trainer, (ends[-1] - ends[0]) / (len(ends) - 1)


def _describe(trainer: Any, batch: int, seconds_per_iteration: float) -> Measurement:
    checkpoint = io.BytesIO()
    torch.save(trainer.state_dict(), checkpoint)
    images_BCHW, _ = trainer.sample()
    return Measurement(
        seconds_per_iteration=seconds_per_iteration,
        measured_batch_size=batch,
        threads=torch.get_num_threads(),
        teacher_parameters=_count(trainer.teacher),
        student_parameters=_count(trainer.student),
        generator_parameters=_count(trainer.generator),
        checkpoint_bytes=checkpoint.tell(),
        weights_bytes=_size(trainer.student) + _size(trainer.generator),
        samples_bytes=images_BCHW.numel(),
    )


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _size(network: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())


def main(request: Mapping[str, Any]) -> Measurement:
    """The measurement that a request asks for."""
    torch.set_num_threads(request["threads"])
    return measure(
        _train_settings(request["train"]),
        teacher=request["teacher"],
        student=request["student"],
        image=PlacedData.of(_data_settings(request["data"])).spec,
        seconds=request["seconds"],
    )


def _data_settings(raw: Mapping[str, Any]) -> DataSettings:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()
    }
    return DataSettings(**values)


def _train_settings(raw: Mapping[str, Any]) -> TrainSettings:
    blocks = {"loss": LossSettings, "generator": GeneratorSettings, "student": StudentSettings}
    return TrainSettings(**{**raw, **{name: block(**raw[name]) for name, block in blocks.items()}})


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(asdict(main(json.load(sys.stdin)))) + "\n")
    except CoreError as error:
        sys.exit(f"error: {error}")
