"""A student as a file that others run: `python -m cpsc_core.export < request.json`.

A request holds `settings` (of the trial), `weights` (the student's file), `to` (safetensors or onnx),
`folder` and `threads`; the answer is an Exported as JSON. What was written is read back and run beside the
student before anything is answered.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cpsc_core.attempt import replacing, write_json
from cpsc_core.data.labelled import PlacedData
from cpsc_core.errors import CoreError, ExportError
from cpsc_core.images import ImageSpec
from cpsc_core.process import end_on_sigterm
from cpsc_core.seeds import stream_seed
from cpsc_core.settings import TrialSettings
from cpsc_core.student import LogitsOnly, load_student
from cpsc_core.weights import save_tensors

__all__ = ["FORMATS", "Exported", "export_student"]

Run = Callable[[Tensor], Tensor]
"""Logits of normalised images."""

TOLERANCE = 1e-3
"""Largest difference between two logits that counts as rounding, relative to the largest logit."""
_BATCHES = (1, 2, 7, 32)
_TIMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written, and how it compared."""

    file: str
    """Name of the file in the folder."""
    bytes: int
    """Its size."""
    parameters: int
    """Numbers the student learned."""
    largest_difference: float
    """Largest difference of a logit between file and student, over batches of 1, 2, 7 and 32 images."""
    milliseconds_for_one: float
    """Median time of one image by itself."""
    milliseconds_of_many: float
    """Median time per image in batches of 32."""
    input: dict[str, Any]
    """Shape, mean and deviation of the images it takes, and the names of the classes."""


def export_student(settings: Mapping[str, Any], weights: Path, *, to: str, folder: Path) -> Exported:
    """Write a student into a folder in a format of FORMATS, read it back, and compare.

    Raises ExportError if the format is unknown, if a package it needs is missing, or if the file answers
    differently from the student; the file is removed then.
    """
    if to not in FORMATS:
        raise ExportError(f"there is no format {to!r}; choose one of {', '.join(sorted(FORMATS))}")
    trial = TrialSettings.from_dict(settings)
    data_set = PlacedData.of(trial.data).data_set
    spec, student = data_set.spec, load_student(settings, weights)
    folder.mkdir(parents=True, exist_ok=True)
    path, run = FORMATS[to](student, folder, settings)
    difference = _compare(LogitsOnly(student).eval(), run, spec, path)
    facts = {"arch": trial.student_arch, **asdict(spec), "class_names": list(data_set.class_names)}
    write_json(folder / "config.json", facts)
    return Exported(
        file=path.name,
        bytes=path.stat().st_size,
        parameters=sum(each.numel() for each in student.parameters()),
        largest_difference=difference,
        milliseconds_for_one=_milliseconds(run, _images(1, spec)),
        milliseconds_of_many=_milliseconds(run, _images(32, spec)) / 32,
        input=facts,
    )


def _to_safetensors(student: nn.Module, folder: Path, settings: Mapping[str, Any]) -> tuple[Path, Run]:
    path = folder / "student.safetensors"
    save_tensors(path, student.state_dict())
    back = LogitsOnly(load_student(settings, path)).eval()
    return path, back


def _to_onnx(student: nn.Module, folder: Path, settings: Mapping[str, Any]) -> tuple[Path, Run]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch needs it and says so less clearly
    except ImportError as error:
        raise ExportError(
            f"ONNX needs the package {error.name}, which is not installed; "
            "run pip install 'cpsc-orchestrate[onnx]', or use --to safetensors"
        ) from error
    path = folder / "student.onnx"
    spec = PlacedData.of(TrialSettings.from_dict(settings).data).spec
    with replacing(path) as draft, _quietly():
        program = torch.onnx.export(
            LogitsOnly(student).eval(),
            (_images(2, spec),),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),
            verbose=False,
        )
        if program is None:
            raise ExportError("torch gave no ONNX program for this student; use --to safetensors")
        program.save(draft, external_data=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return path, lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


FORMATS: Mapping[str, Callable[[nn.Module, Path, Mapping[str, Any]], tuple[Path, Run]]] = {
    "onnx": _to_onnx,
    "safetensors": _to_safetensors,
}
"""What writes each format; it returns the file and a function that runs it."""


def _compare(student: nn.Module, run: Run, spec: ImageSpec, path: Path) -> float:
    largest = 0.0
    for batch in _BATCHES:
        images_BCHW = _images(batch, spec)
        with torch.no_grad():
            wanted_BC, given_BC = student(images_BCHW), run(images_BCHW)
        difference = float((wanted_BC - given_BC).abs().max())
        if given_BC.shape != wanted_BC.shape or not difference <= TOLERANCE * float(wanted_BC.abs().max()):
            path.unlink()
            raise ExportError(
                f"{path.name} does not answer as the student does: for {batch} image(s) a logit differs by "
                f"{difference:.3g}; nothing was kept, please report this"
            )
        largest = max(largest, difference)
    return largest


def _images(count: int, spec: ImageSpec) -> Tensor:
    """Noise in the space of normalised images; the same for the same count."""
    chance = np.random.default_rng(stream_seed(0, "export", 0, count))
    shape = (count, spec.channels, spec.size, spec.size)
    return torch.from_numpy(chance.standard_normal(shape, dtype=np.float32))


def _milliseconds(run: Run, images_BCHW: Tensor) -> float:
    times = []
    with torch.no_grad():
        for _ in range(_TIMED):
            begun = time.perf_counter()
            run(images_BCHW)
            times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1000


@contextlib.contextmanager
def _quietly() -> Any:
    """What libraries say while they convert is no news to a person."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield


def main(request: Mapping[str, Any]) -> Exported:
    """What a request asks for."""
    torch.set_num_threads(request["threads"])
    return export_student(
        request["settings"], Path(request["weights"]), to=request["to"], folder=Path(request["folder"])
    )


if __name__ == "__main__":
    end_on_sigterm()
    try:
        sys.stdout.write(json.dumps(asdict(main(json.load(sys.stdin)))) + "\n")
    except CoreError as error:
        sys.exit(f"error: {error}")
