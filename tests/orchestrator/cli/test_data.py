from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cpsc_core.data import download
from cpsc_core.data.torchvision_sets import MNIST
from cpsc_core.tables import DATA_SETS
from orchestrator.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["data", *arguments])


def test_without_a_name_the_table_is_shown() -> None:
    told, document = run(), json.loads(run("--json").stdout)

    assert told.exit_code == 0
    rows = {each["name"]: each for each in document["data"]}
    assert list(rows) == sorted(DATA_SETS)
    assert all(name in told.stdout for name in rows)
    assert rows["cifar10"] | {"mean": [], "std": []} == {
        "name": "cifar10",
        "images": {"train": 50_000, "test": 10_000},
        "classes": 10,
        "shape": "3 x 32 x 32",
        "mean": [],
        "std": [],
        "megabytes": pytest.approx(170.5, abs=0.1),
        "licence": "none stated; to be cited as Krizhevsky 2009",
    }
    assert all(each["licence"] for each in rows.values())


def test_a_download_says_where_it_is_and_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(url: str, target: Path, *, md5: str, told: download.Told) -> None:
        told(target.name, 5, 10)
        target.write_bytes(url.encode())

    monkeypatch.setattr(download, "fetch", write)
    monkeypatch.setattr(download, "unpack", lambda archive, target: archive.rename(target))

    told = run("mnist", "--root", str(tmp_path / "d"))
    document = json.loads(run("mnist", "--root", str(tmp_path / "d"), "--json").stdout)

    assert told.exit_code == 0, told.output
    assert told.stdout.splitlines()[-1].strip() == f"data: {{name: mnist, root: {tmp_path}/d}}"
    assert document["files"] == [str(path) for path in MNIST.layout.files(tmp_path / "d")]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["mnist"], "--root is needed: the folder to download mnist to"),
        (
            ["parquet", "--root", "x"],
            "parquet is not downloaded: it ships with a package or is data of your own",
        ),
        (["minst", "--root", "x"], "no data set is called 'minst'"),
        (["mnist", "--root", "/proc/nowhere"], "/proc/nowhere cannot be written to"),
    ],
)
def test_what_cannot_be_downloaded_is_told(arguments: list[str], complaint: str) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert complaint in result.stderr
