"""Synthetic images of a trained generator as a data set: `python -m cpsc_core.synthesis < request.json`.

A request holds `settings` (of the trial), `generator` (its weights file), `folder`, `train` and `test` (how
many images) and `threads`; the answer is a Synthesis as JSON. The Parquet files have the schema of the
Hugging Face library: `image` (PNG), `label` and `teacher_logits`. The label is the class that the teacher
sees in the image as it is in the file, whatever class the generator was asked for.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn

from cpsc_core.attempt import replacing
from cpsc_core.data.labelled import PlacedData
from cpsc_core.data.pixels import normalise
from cpsc_core.distill.batch_norm import forgetting_batch_norm
from cpsc_core.distill.draws import LatentDraws, Latents
from cpsc_core.errors import CoreError, ExportError
from cpsc_core.images import ImageSpec
from cpsc_core.process import end_on_sigterm
from cpsc_core.samples import pixels
from cpsc_core.settings import TrialSettings
from cpsc_core.tables import METHODS, lookup
from cpsc_core.teacher import load_teacher
from cpsc_core.weights import build_network, fill_network, parse_tensors, read_file

__all__ = ["Synthesis", "synthesise"]

_ROWS_OF_A_FILE = 50_000
_HELD_OUT_OF_A_CLASS = 2
"""Whoever reads the files takes one half of the test images for validation."""
_DRAWN_AT_MOST = 50
"""Batches that are drawn for one that is needed, before a class counts as hardly made."""

Batch = tuple[Tensor, Tensor, Tensor]
"""Pixels (uint8), labels and the teacher's logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesis:
    """What was written."""

    files: list[str]
    """Names of the files in the folder."""
    bytes: int
    """Their size together."""
    images: dict[str, int]
    """How many of each part, train and test."""
    drawn: int
    """How many images were drawn to find as many of each class."""
    data: dict[str, Any]
    """The `data` block of an experiment file that reads them back."""


def synthesise(
    settings: Mapping[str, Any], generator: Path, *, folder: Path, train: int, test: int
) -> Synthesis:
    """Write images of a trial's generator into a folder, as many of each class, give or take one.

    There are at least two test images of each class. Asked again, it writes the same. In the end all files
    are there, or none is new. Raises ExportError if there are fewer images than classes, or if the generator
    hardly makes some class; TeacherError if a weights file does not fit.
    """
    trial = TrialSettings.from_dict(settings)
    data_set = PlacedData.of(trial.data).data_set
    spec, names = data_set.spec, list(data_set.class_names)
    if train < spec.num_classes:
        raise ExportError(f"{train} images are too few for {spec.num_classes} classes; ask for more")
    counts = {"train": train, "test": max(test, _HELD_OUT_OF_A_CLASS * spec.num_classes)}
    teacher = load_teacher(trial.teacher, spec)
    maker = _Maker(trial, spec, teacher, _generator(trial, spec, teacher, generator))
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    with ExitStack() as whole:  # files take their names together: a part of a set would be read as the set
        for part, count in counts.items():
            shards = -(-count // _ROWS_OF_A_FILE)
            for shard in range(shards):
                rows = min(_ROWS_OF_A_FILE, count - shard * _ROWS_OF_A_FILE)
                files.append(folder / f"{part}-{shard:05d}-of-{shards:05d}.parquet")
                draft = whole.enter_context(replacing(files[-1]))
                _write(draft, maker.batches(part, shard, rows), _schema(names))
    return Synthesis(
        files=[path.name for path in files],
        bytes=sum(path.stat().st_size for path in files),
        images=counts,
        drawn=maker.drawn,
        data={
            "name": "parquet",
            "root": str(folder),
            "size": spec.size,
            "classes": names,
            "normalization": {"mean": list(spec.mean), "std": list(spec.std)},
            "flips": data_set.flips,
        },
    )


@dataclass(slots=True)
class _Maker:
    trial: TrialSettings
    spec: ImageSpec
    teacher: nn.Module
    generator: nn.Module
    drawn: int = 0

    def batches(self, part: str, shard: int, rows: int) -> Iterator[Batch]:
        """Pixels, labels and the teacher's logits of one file, a batch at a time."""
        draws = LatentDraws.of(self.trial.train, self.spec.num_classes)
        lacking = [len(range(label, rows, self.spec.num_classes)) for label in range(self.spec.num_classes)]
        for step in range(_DRAWN_AT_MOST * -(-rows // draws.batch_size)):
            kept = self._draw(draws(f"export {part}", shard, step), lacking)
            if len(kept[1]):
                yield kept
            if not any(lacking):
                return
        scarce = lacking.index(max(lacking))
        raise ExportError(
            f"of {rows} images, {max(lacking)} of class {scarce} are still lacking after {self.drawn} draws: "
            "this generator hardly makes it; ask for fewer images, or name another trial with --trial"
        )

    def _draw(self, latents: Latents, lacking: list[int]) -> Batch:
        """What of one batch is still needed; counts it off."""
        with torch.no_grad(), forgetting_batch_norm(self.generator):
            images_BCHW = self.generator(*latents)
        pixels_BCHW = pixels(images_BCHW, self.spec)
        with torch.no_grad():
            logits_BC = self.teacher(normalise(pixels_BCHW, self.spec)).logits_BC
        labels_B = logits_BC.argmax(1)
        self.drawn += len(labels_B)
        chosen = []
        for index, label in enumerate(labels_B.tolist()):
            if lacking[label]:
                lacking[label] -= 1
                chosen.append(index)
        return pixels_BCHW[chosen], labels_B[chosen], logits_BC[chosen]


def _generator(trial: TrialSettings, spec: ImageSpec, teacher: nn.Module, weights: Path) -> nn.Module:
    student = build_network(trial.student_arch, spec)
    trainer = lookup(METHODS, trial.train.method)(trial.train, teacher=teacher, student=student, image=spec)
    network: nn.Module = trainer.generator
    tensors = parse_tensors(read_file(weights), weights)
    fill_network(network, tensors, source=weights, arch=f"{trial.train.method} generator")
    return network


def _write(path: Path, batches: Iterator[Batch], schema: pa.Schema) -> None:
    with pq.ParquetWriter(path, schema) as writer:
        for pixels_BCHW, labels_B, logits_BC in batches:
            images = [{"bytes": _png(each), "path": None} for each in pixels_BCHW]
            columns = [images, labels_B.tolist(), logits_BC.tolist()]
            arrays = [pa.array(each, kind) for each, kind in zip(columns, schema.types, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _png(pixels_CHW: Tensor) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels_CHW.permute(1, 2, 0).squeeze(-1).numpy()).save(content, "PNG")
    return content.getvalue()


def _schema(names: Sequence[str]) -> pa.Schema:
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": list(names)},
        "teacher_logits": {"_type": "List", "feature": {"_type": "Value", "dtype": "float32"}},
    }
    return pa.schema(
        [
            pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])),
            pa.field("label", pa.int64()),
            pa.field("teacher_logits", pa.list_(pa.float32())),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


def main(request: Mapping[str, Any]) -> Synthesis:
    """What a request asks for."""
    torch.set_num_threads(request["threads"])
    return synthesise(
        request["settings"],
        Path(request["generator"]),
        folder=Path(request["folder"]),
        train=request["train"],
        test=request["test"],
    )


if __name__ == "__main__":
    end_on_sigterm()
    try:
        sys.stdout.write(json.dumps(asdict(main(json.load(sys.stdin)))) + "\n")
    except CoreError as error:
        sys.exit(f"error: {error}")
