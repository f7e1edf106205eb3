"""Teachers: kept in a folder of their own, and loaded for every trial."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cpsc_core.card import TeacherCard, TeacherFolder, teacher_key, write_card
from cpsc_core.data.labelled import LabelledImages, PlacedData
from cpsc_core.data.splits import HELD_OUT, rows_digest
from cpsc_core.distill.draws import seeded
from cpsc_core.errors import TeacherError
from cpsc_core.images import ImageSpec
from cpsc_core.probe import confident_share, save_probe
from cpsc_core.process import versions
from cpsc_core.settings import DataSettings, TeacherSettings, TeacherTraining
from cpsc_core.weights import (
    build_network,
    fill_network,
    parse_tensors,
    read_checkpoint,
    read_file,
    save_tensors,
)

__all__ = ["import_checkpoint", "keep_teacher", "load_teacher"]


def keep_teacher(
    folder: Path,
    network: nn.Module,
    probe: LabelledImages,
    *,
    arch: str,
    data: DataSettings,
    accuracy: Mapping[str, float],
    origin: TeacherTraining | Path,
) -> TeacherCard:
    """Write a teacher's folder and return its card, which is written last.

    `accuracy` has val and test. `origin` is how it was trained, or the file its weights were given in.
    """
    placed, files = PlacedData.of(data), TeacherFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fingerprint = placed.fingerprint()
    save_probe(files.probe, probe)
    card = TeacherCard(
        key=teacher_key(arch, fingerprint, origin),
        arch=arch,
        num_classes=placed.spec.num_classes,
        sha256=save_tensors(files.weights, network.state_dict()),
        accuracy=accuracy["val"],
        test_accuracy=accuracy["test"],
        data=data.name,
        data_fingerprint=fingerprint,
        splits={split: _describe(placed, split) for split in HELD_OUT},
        mean=placed.spec.mean,
        std=placed.spec.std,
        training=dataclasses.asdict(origin) if isinstance(origin, TeacherTraining) else None,
        probe_share=confident_share(network, probe),
        versions=versions(),
    )
    write_card(folder, card)
    return card


def load_teacher(settings: TeacherSettings, spec: ImageSpec) -> nn.Module:
    """The teacher of a trial on the CPU: frozen, in evaluation mode.

    Raises TeacherError if the file is missing, has another digest or holds another network, or if the teacher
    was trained on images normalised in another way.
    """
    _check_normalisation(settings, spec)
    path = Path(settings.weights)
    content = read_file(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != settings.sha256:
        raise TeacherError(
            f"{path} is not the teacher the trial was made for: its digest is {digest[:12]}, "
            f"but should be {settings.sha256[:12]}; restore the file, or make a new experiment with this one"
        )
    return _filled(settings.arch, spec, parse_tensors(content, path), path).requires_grad_(False)


def import_checkpoint(path: Path, arch: str, spec: ImageSpec) -> nn.Module:
    """A teacher from a file that somebody else made, see `weights.read_checkpoint`; in evaluation mode.

    Raises TeacherError naming file, tensor, expected and found shape if it does not fit.
    """
    return _filled(arch, spec, read_checkpoint(path), path)


def _describe(placed: PlacedData, split: str) -> dict[str, Any]:
    rows_B = placed.rows(split)
    return {"images": len(rows_B), "rows_sha256": rows_digest(rows_B)}


def _filled(arch: str, spec: ImageSpec, tensors: Mapping[str, Tensor], source: Path) -> nn.Module:
    with seeded(0, "filled"):  # the weights it is born with are thrown away, and draw on nobody's stream
        network = build_network(arch, spec)
    fill_network(network, tensors, source=source, arch=arch)
    return network.eval()


def _check_normalisation(settings: TeacherSettings, spec: ImageSpec) -> None:
    known = {"mean": (settings.mean, spec.mean), "deviation": (settings.std, spec.std)}
    for name, (trained, given) in known.items():
        if trained is not None and trained != given:
            raise TeacherError(
                f"the teacher {settings.weights} was trained on images normalised with {name} "
                f"{_listed(trained)}, but those of the data set are normalised with {_listed(given)}; give "
                "the data set the teacher's normalisation, or train a teacher on the data set as it is"
            )


def _listed(numbers: tuple[float, ...]) -> str:
    return ", ".join(map(str, numbers))
