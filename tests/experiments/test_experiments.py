"""Every experiment that ships runs: one iteration of its own networks, and slowly all of it through Ray."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from cpsc_core.attempt import AttemptPaths, read_lines
from cpsc_core.data.labelled import PlacedData
from cpsc_core.data.tiny_imagenet_classes import WORDNET_NUMBERS
from cpsc_core.process import using_threads
from cpsc_core.settings import TeacherSettings, TrialSettings
from cpsc_core.trial import run_trial
from cpsc_core.weights import build_network, save_tensors
from orchestrator.config import Experiment, load_experiment
from orchestrator.report.best import best_document
from orchestrator.store.folder import SweepFolder
from orchestrator.store.paths import StoragePaths
from tests.support.command import command
from tests.support.images import pictures, write_folder, write_parquet, write_tiny_imagenet

FOLDER = Path(__file__).parents[2] / "experiments"
FILES = sorted(FOLDER.glob("*.yaml"))

ONE_ITERATION = (
    "teacher.checkpoint=null",
    "pruner={name: none}",
    "train.epochs=1",
    "train.iterations_per_epoch=1",
    "train.batch_size=2",
    "train.precision=fp32",
    "train.generator.width=8",
    "train.generator.latent_dim=8",
    "train.generator.steps=1",
    "train.student.steps=1",
)
"""Little work, but the experiment's own networks, data format and losses."""

THE_WHOLE = (
    *ONE_ITERATION[3:],
    "teacher={arch: resnet8, checkpoint: null, expected_accuracy: null, train: {epochs: 1, batch_size: 20}}",
    "student.arch=resnet8",
    "train.epochs=2",
    "pruner={name: successive_halving, min_epochs: 1, reduction_factor: 2}",
    "sampler={name: random}",
    "enqueue=[]",
    "budget={trials: 2}",
    "confirm={top: 1, seeds: 1}",
    "resources={workers: 1, gpus_per_worker: 0, cpus_per_worker: 1}",
)
"""All stages, of small networks."""


def write_parquet_data(root: Path) -> str:
    for part in ("train", "test"):
        write_parquet(root / f"{part}.parquet", *pictures(12, 32))
    return f"data={{name: parquet, root: {root}, size: 32, classes: 10, normalization: cifar10}}"


def write_folder_data(root: Path) -> str:
    names = [f"class{label:03d}" for label in range(100)]
    pixels_BHWC, labels_B = pictures(102, 32, classes=100)
    for part in ("train", "test"):
        write_folder(root, part, pixels_BHWC, labels_B, names)
    return f"data={{name: imagefolder, root: {root}, size: 32, classes: 100, normalization: cifar100}}"


def write_archive(root: Path) -> str:
    root.mkdir()
    write_tiny_imagenet(root / "tiny-imagenet-200.zip", WORDNET_NUMBERS, val=202)
    return f"data={{name: tiny_imagenet, root: {root}}}"


DATA = {"cifar10": write_parquet_data, "cifar100": write_folder_data, "tiny_imagenet": write_archive}


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, using_threads(1):
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What to override so that an experiment finds small images in place of its own."""
    folder = tmp_path_factory.mktemp("data")
    return {name: write(folder / name) for name, write in DATA.items()} | {"digits": "data.name=digits"}


@cache
def data_of(file: Path) -> str:
    return load_experiment(file, ("teacher.checkpoint=null",)).config.data.name


def shrinking(file: Path, small_data: dict[str, str], overrides: tuple[str, ...]) -> tuple[str, ...]:
    """All that makes an experiment small."""
    data = data_of(file)
    return (small_data[data], *overrides, *(() if data == "digits" else ("data.size=16",)))


def untrained(config: Experiment, folder: Path) -> TeacherSettings:
    placed = PlacedData.of(config.config.data.settings())
    arch = config.config.teacher.arch
    weights = folder / "teacher.safetensors"
    digest = save_tensors(weights, build_network(arch, placed.spec).state_dict())
    return TeacherSettings(arch=arch, weights=str(weights), sha256=digest)


def test_there_is_a_file_for_every_published_pair() -> None:
    pairs = (
        ("resnet34", "resnet18"),
        ("vgg11", "resnet18"),
        ("wrn40_2", "wrn16_1"),
        ("wrn40_2", "wrn40_1"),
        ("wrn40_2", "wrn16_2"),
    )
    expected = {(data, *pair) for data in ("cifar10", "cifar100") for pair in pairs}
    expected.add(("tiny_imagenet", "resnet34", "resnet18"))

    found = set()
    for file in FILES:
        config = load_experiment(file, ("teacher.checkpoint=null",)).config
        found.add((config.data.name, config.teacher.arch, config.student.arch))

    assert expected <= found


def test_every_experiment_has_a_name_of_its_own() -> None:
    names = [load_experiment(file, ("teacher.checkpoint=null",)).config.name for file in FILES]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_table_of_the_readme_has_the_command(file: Path) -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")

    assert re.search(
        rf"^\| .*\[{file.stem}\]\({file.name}\).*`sweep experiments/{file.name}`", readme, re.MULTILINE
    )


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (FOLDER / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.split()[1] == "sweep"]


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_readme_is_a_valid_experiment(line: str, tmp_path: Path) -> None:
    teacher = tmp_path / "teachers" / "resnet20-12fca82f.th"
    teacher.parent.mkdir()
    teacher.touch()
    _, _, file, *options = shlex.split(line.replace("$DATA", str(tmp_path)))

    config = load_experiment(FOLDER.parent / file, options[1::2]).config

    assert set(options[::2]) <= {"--set"}
    assert config.data.name == "digits" or config.data.settings().root is not None


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_one_iteration_of_every_experiment_runs(
    file: Path, small_data: dict[str, str], tmp_path: Path
) -> None:
    experiment = load_experiment(file, shrinking(file, small_data, ONE_ITERATION))
    config, data = experiment.config, experiment.config.data.settings()
    trial = TrialSettings(
        data=data,
        data_fingerprint=PlacedData.of(data).fingerprint(),
        teacher=untrained(experiment, tmp_path),
        student_arch=config.student.arch,
        train=config.train,
    )

    lines = list(run_trial(trial, tmp_path / "trial", 1, threads=1))

    assert [line["epoch"] for line in lines] == [1]
    assert lines[-1]["final"]
    assert 0 <= lines[-1]["val_accuracy"] <= 1
    assert read_lines(AttemptPaths.of(tmp_path / "trial", 1).metrics) == lines


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_experiment_runs_from_its_teacher_to_the_test(
    file: Path, small_data: dict[str, str], tmp_path: Path
) -> None:
    overrides = shrinking(file, small_data, THE_WHOLE)
    search = load_experiment(file, overrides).config.search

    command("sweep", file, *(word for each in overrides for word in ("--set", each)), "--storage", tmp_path)

    [sweep] = [path for path in tmp_path.iterdir() if (path / "manifest.json").exists()]
    best = best_document(SweepFolder(StoragePaths(tmp_path).sweep(sweep.name)))
    assert best["params"].keys() == search.keys()
