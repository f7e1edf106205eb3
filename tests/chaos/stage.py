"""The stage of a sweep in chaos: its storage, the command that runs it, and how it goes in peace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch

from cpsc_core.card import TeacherCard, teacher_key
from cpsc_core.data.digits import DIGITS
from cpsc_core.data.labelled import LabelledImages
from cpsc_core.settings import DataSettings, TrialSettings
from cpsc_core.teacher import keep_teacher
from cpsc_core.trial import run_trial
from cpsc_core.weights import build_network, save_tensors
from orchestrator.cluster.shape import Shape
from orchestrator.config import SweepConfig, parse_experiment
from orchestrator.controller.controller import Controller
from orchestrator.store.lease import Lease
from orchestrator.store.paths import StoragePaths, SweepPaths
from orchestrator.store.records import EndClass
from orchestrator.store.writer import SweepWriter
from tests.chaos.killer import Killer
from tests.chaos.witness import fingerprints

__all__ = ["ONE_SLOT", "IN_ANY_ORDER", "CannotMountError", "Process", "Stage"]

Process = subprocess.Popen[bytes]

EXPERIMENT = """
name: chaos
data: {name: digits}
teacher: {arch: resnet8, checkpoint: CHECKPOINT}
student: {arch: resnet8}
train:
  epochs: 6
  iterations_per_epoch: 2
  batch_size: 8
  samples_every: 3
  generator: {width: 8, steps: 1}
  student: {steps: 1, lr: 0.02}
search:
  loss.ikd: {low: 0.1, high: 1.0, log: true}
  loss.pseudo_label: {low: 0.1, high: 1.0, log: true}
  generator.latent_dim: {choices: [4, 8]}
objective: {metric: student_kl, direction: minimize}
retry: {infrastructure: 100}
budget: {trials: 8}
"""

ONE_SLOT = (
    "sampler={name: tpe, options: {n_startup_trials: 2}}",
    "pruner={name: successive_halving, min_epochs: 2, reduction_factor: 2}",
    "confirm={top: 1, seeds: 1}",
)
"""For one processor: samplers and pruners see the same in every run, and so the whole table is the same."""

IN_ANY_ORDER = ("sampler.name=random", "pruner.name=none", "confirm={top: 1, seeds: 1}")
"""For trials whose order may differ: nothing here depends on who ends first."""


class CannotMountError(Exception):
    """This machine does not allow a file system to be mounted; the message says why."""


@dataclass
class Stage:
    """A storage folder with a kept teacher, and the command as a user runs it."""

    folder: Path
    killer: Killer
    storage: StoragePaths = field(init=False)
    temporary: Path = field(init=False)
    experiment: Path = field(init=False)
    _peace: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.storage = StoragePaths(self.folder / "storage")
        # short, since Ray's sockets lie below it and their paths may have 107 bytes
        self.temporary = Path(tempfile.mkdtemp(prefix="", dir="/tmp"))
        self.experiment = self.folder / "chaos.yaml"
        self._card = self._keep_teacher()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.temporary, ignore_errors=True)

    @contextmanager
    def on_a_disk_of(self, size: int) -> Iterator[None]:
        """Meanwhile the storage folder is a file system of its own; raises CannotMountError."""
        before = self.storage
        small = self.folder / "disk"
        small.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "chaos", str(small)]
        if (done := subprocess.run(command, capture_output=True, text=True, check=False)).returncode:
            raise CannotMountError(f"no small file system can be mounted here: {done.stderr.strip()}")
        try:
            shutil.copytree(before.teachers, small / "teachers")
            self.storage = StoragePaths(small)
            yield
        finally:
            self.storage = before
            subprocess.run(["umount", "--lazy", str(small)], check=True)

    def root(self, name: str) -> Path:
        """The folder of a sweep."""
        return self.storage.sweep(name).root

    def start(self, name: str, overrides: Sequence[str], processors: int | None = None) -> Process:
        """Start a sweep, or resume it if it has begun, in a process group and on processors of its own."""
        if (self.root(name) / "manifest.json").exists():
            what = ["resume", str(self.root(name))]
        else:
            sets = [word for each in (f"name={name}", *overrides) for word in ("--set", each)]
            what = ["sweep", str(self.experiment), "--storage", str(self.storage.root), *sets]
        program = [sys.executable, "-c", "from orchestrator.cli import main; main()"]
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(before)[:processors])
        try:
            with self.log(name).open("ab") as log:
                return subprocess.Popen(
                    [*program, *what],
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=self.killer.environment | {"TMPDIR": str(self.temporary)},
                )
        finally:
            os.sched_setaffinity(0, before)

    def log(self, name: str) -> Path:
        """What the command said in all its runs of a sweep."""
        return self.folder / f"{name}.log"

    def lines(self, name: str) -> int:
        """Metric lines in all attempts of a sweep so far."""
        return sum(
            path.read_bytes().count(b"\n")
            for path in self.root(name).glob("trials/*/attempts/*/metrics.jsonl")
        )

    def in_peace(self, name: str, overrides: Sequence[str]) -> dict[str, str]:
        """Fingerprints of the sweep as it goes if nothing happens: run in this process, without Ray."""
        deciding = tuple(each for each in overrides if not each.startswith("tracking."))
        if deciding not in self._peace:
            config = parse_experiment(self.experiment.read_text(), [f"name={name}", *deciding]).config
            root = self.folder / "peace" / name
            run_here(config, root, self._template(config))
            self._peace[deciding] = fingerprints(root)
        return self._peace[deciding]

    def _template(self, config: SweepConfig) -> TrialSettings:
        card = self._card
        return TrialSettings(
            data=DataSettings(name="digits"),
            data_fingerprint=card.data_fingerprint,
            teacher=card.settings(self.storage.teacher(card.key)),
            student_arch=config.student.arch,
            train=config.train,
        )

    def _keep_teacher(self) -> TeacherCard:
        """An untrained teacher and a probe of noise: quickly made, and as good for faults as any."""
        chance = torch.Generator().manual_seed(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = build_network("resnet8", DIGITS.spec).eval()
        weights = self.folder / "teacher.safetensors"
        save_tensors(weights, network.state_dict())
        self.experiment.write_text(EXPERIMENT.replace("CHECKPOINT", str(weights)))
        key = teacher_key("resnet8", DIGITS.fingerprint(), weights)
        probe = LabelledImages(torch.randn(20, 1, 16, 16, generator=chance), torch.arange(20) % 10)
        return keep_teacher(
            self.storage.teacher(key),
            network,
            probe,
            arch="resnet8",
            data=DataSettings(name="digits"),
            accuracy={"val": 0.1, "test": 0.1},
            origin=weights,
        )


def run_here(config: SweepConfig, root: Path, template: TrialSettings) -> None:
    """Carry out a controller's orders in this process, one trial after the other, and nothing goes wrong."""
    paths = SweepPaths(root)
    paths.trials.mkdir(parents=True, exist_ok=True)
    wish = config.resources
    with Lease.acquire(paths.lease) as lease:
        shape = Shape(workers=1, cpus=wish.cpus_per_worker, gpus=0)
        orders = Controller(config, template, SweepWriter(paths, lease), shape)
        while (assignment := orders.hand_out()) is not None:
            settings = TrialSettings.from_dict(assignment.settings)
            lines = run_trial(settings, Path(assignment.folder), assignment.attempt, threads=shape.cpus)
            ended = EndClass.COMPLETE
            for line in lines:
                if not line.get("final") and not orders.hear_line(assignment, line):
                    ended = EndClass.PRUNED
                    break
            lines.close()
            orders.hear_end(assignment, ended, None, [], None)
