"""A network, a loss and data of somebody else's package are used by name: nothing is changed for them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cpsc_core.attempt import AttemptPaths, read_lines
from cpsc_core.images import ImageSpec
from cpsc_core.settings import (
    DataSettings,
    GeneratorSettings,
    LossSettings,
    StudentSettings,
    TeacherSettings,
    TrainSettings,
    TrialSettings,
)
from cpsc_core.weights import build_network, parse_tensors, save_tensors

COMMAND = "from orchestrator.cli import main; main()"
REPOSITORY = Path(__file__).parents[1]
STRIPES = ImageSpec(num_classes=3, channels=1, size=16, mean=(0.0,), std=(1.0,))

METADATA = """\
Metadata-Version: 2.4
Name: somebodys-package
Version: 1.0
"""
ENTRY_POINTS = """\
[cpsc_core.networks]
slim = somebodys_package.networks:Slim

[cpsc_core.losses]
huber = torch.nn.functional:huber_loss

[cpsc_core.data_sets]
stripes = somebodys_package.data:STRIPES
"""
NETWORKS = """\
from torch import nn
from cpsc_core.networks.output import Network, Output

class Slim(Network):
    def __init__(self, *, num_classes, channels, size):
        super().__init__(feature_dim=6, size=size)
        self.maps = nn.Sequential(nn.Conv2d(channels, 6, 3, 4), nn.BatchNorm2d(6), nn.ReLU())
        self.decide = nn.Linear(6, num_classes)

    def forward(self, x_BCHW):
        features_BD = self.maps(x_BCHW).mean((2, 3))
        return Output(self.decide(features_BD), features_BD)
"""
DATA = """\
from cpsc_core.images import ImageSpec

class Stripes:
    spec = ImageSpec(num_classes=3, channels=1, size=16, mean=(0.0,), std=(1.0,))
    class_names = ("wide", "narrow", "none")
    flips = True

    def fingerprint(self, root):
        return "stripes 1"

    def rows(self, split, root):
        return list(range(12))

    def load(self, split, root):
        import torch
        from cpsc_core.data.labelled import LabelledImages
        labels_B = torch.arange(12) % 3
        columns_W = torch.arange(16)
        stripes_BW = torch.stack([columns_W // 4 % 2, columns_W % 2, 0 * columns_W]).float()[labels_B]
        return LabelledImages(stripes_BW[:, None, None].repeat(1, 1, 16, 1), labels_B)

STRIPES = Stripes()
"""
EXPERIMENT = """\
name: theirs
data: {name: stripes}
teacher: {arch: resnet8}
student: {arch: slim}
train: {epochs: 9, loss: {ikd_form: huber}}
search:
  loss.ikd: {low: 0.1, high: 10, log: true}
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with a package as pip installs it."""
    site = tmp_path / "site"
    for path, text in {
        "somebodys_package-1.0.dist-info/METADATA": METADATA,
        "somebodys_package-1.0.dist-info/entry_points.txt": ENTRY_POINTS,
        "somebodys_package/__init__.py": "",
        "somebodys_package/networks.py": NETWORKS,
        "somebodys_package/data.py": DATA,
    }.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    return site


def run(*arguments: str | Path, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    places = [str(REPOSITORY), *([str(site)] if site else [])]
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
        check=False,
    )


def trial_on_stripes(folder: Path) -> TrialSettings:
    weights = folder / "teacher.safetensors"
    digest = save_tensors(weights, build_network("resnet8", STRIPES).state_dict())
    return TrialSettings(
        data=DataSettings(name="stripes"),
        data_fingerprint="stripes 1",
        teacher=TeacherSettings(arch="resnet8", weights=str(weights), sha256=digest),
        student_arch="slim",
        train=TrainSettings(
            epochs=1,
            iterations_per_epoch=1,
            batch_size=6,
            generator=GeneratorSettings(latent_dim=4, width=4, steps=1),
            student=StudentSettings(steps=1, lr=0.01),
            loss=LossSettings(ikd_form="huber"),
        ),
    )


def test_a_trial_distils_somebody_elses_network_on_their_data(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(trial_on_stripes(tmp_path).to_dict()))

    ran = run("-m", "cpsc_core", tmp_path / "config.json", "--folder", tmp_path / "trial", site=installed)

    attempt = AttemptPaths.of(tmp_path / "trial", 1)
    assert ran.returncode == 0, ran.stderr
    assert read_lines(attempt.metrics)[-1]["final"]
    assert json.loads(attempt.per_class.read_text())["classes"] == ["wide", "narrow", "none"]
    assert "decide.weight" in parse_tensors(attempt.student.read_bytes(), attempt.student)


def test_a_name_is_known_to_experiments_as_long_as_its_package_is_installed(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.yaml").write_text(EXPERIMENT)

    with_it = run("-c", COMMAND, "validate", tmp_path / "x.yaml", site=installed)
    without_it = run("-c", COMMAND, "validate", tmp_path / "x.yaml")

    assert with_it.returncode == 0, with_it.stderr
    assert without_it.returncode == 2
    assert "student.arch: unknown network 'slim'" in without_it.stderr
    assert "data.name: unknown data set 'stripes'" in without_it.stderr
