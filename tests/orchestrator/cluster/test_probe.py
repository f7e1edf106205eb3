"""What a machine says of itself, asked in this process."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.cluster.preflight import CODE, NEEDED
from orchestrator.cluster.probe import digest_code, look
from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket


@pytest.fixture
def wish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return {
        "distributions": ["numpy", "no-such-package"],
        "packages": list(CODE),
        "nonce": None,
        "signature": "me",
        "bucket": None,
        "folders": [],
        "gpus": False,
    }


def test_versions_are_told_and_what_is_missing_is_none(wish: dict[str, Any]) -> None:
    versions = look(wish)["versions"]

    assert versions["numpy"].count(".") == 2
    assert versions["no-such-package"] is None


def test_what_lies_in_the_storage_is_read_and_answered(wish: dict[str, Any], tmp_path: Path) -> None:
    nonce = tmp_path / "nonce"
    nonce.write_text("secret")

    answer = look(wish | {"nonce": str(nonce)})

    assert answer["storage"] == {"read": "secret"}
    assert (tmp_path / "nonce.me").read_text() == "me secret"
    assert answer["free"][str(tmp_path)] > 0


def test_a_storage_that_is_not_there_is_told_and_not_made(wish: dict[str, Any], tmp_path: Path) -> None:
    answer = look(wish | {"nonce": str(tmp_path / "other" / "nonce")})

    assert "No such file" in answer["storage"]["error"]
    assert not (tmp_path / "other").exists()


def test_a_bucket_is_tried_and_left_as_it_was(wish: dict[str, Any], remote: BucketAddress) -> None:
    assert look(wish | {"bucket": str(remote)})["bucket"] is None
    assert Bucket(remote).objects() == {}


def test_a_bucket_that_cannot_be_used_is_told(wish: dict[str, Any], remote: BucketAddress) -> None:
    assert "does not exist" in look(wish | {"bucket": "s3://no-such-bucket/runs"})["bucket"]


def test_folders_that_cannot_be_read_are_told(wish: dict[str, Any], tmp_path: Path) -> None:
    answer = look(wish | {"folders": [str(tmp_path), "/no/such/data"]})

    assert answer["folders"][str(tmp_path)] is None
    assert "No such file" in answer["folders"]["/no/such/data"]


def test_a_cache_that_cannot_be_written_is_told(
    wish: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert look(wish)["cache"] is None
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    assert "Not a directory" in look(wish)["cache"]


def test_network_interfaces_are_named(wish: dict[str, Any]) -> None:
    assert "lo" in look(wish)["interfaces"]


def test_gpus_are_asked_in_a_process_that_computes(wish: dict[str, Any]) -> None:
    import torch

    assert look(wish | {"gpus": True})["gpus"] == {
        "count": torch.cuda.device_count(),
        "cuda": torch.version.cuda,
    }


def test_a_changed_line_of_code_changes_its_digest_and_a_compiled_file_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "ours"
    package.mkdir()
    for name in ("__init__.py", "other.py"):
        (package / name).write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    digest = digest_code(["ours"])

    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "other.cpython-311.pyc").write_bytes(b"x")
    assert digest_code(["ours"]) == digest is not None
    (package / "other.py").write_text("x = 2\n")
    assert digest_code(["ours"]) != digest


def test_a_copy_elsewhere_has_the_same_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = digest_code(["orchestrator"])
    shutil.copytree(Path(orchestrator.__file__).parent, tmp_path / "orchestrator_copy")
    (tmp_path / "orchestrator_copy").rename(tmp_path / "orchestrator")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [each for each in sys.modules if each.partition(".")[0] == "orchestrator"]:
        monkeypatch.delitem(sys.modules, name)

    assert digest_code(["orchestrator"]) == digest


def test_code_that_is_not_there_has_no_digest() -> None:
    assert digest_code(["no_such_package"]) is None


def test_every_package_that_ranks_load_is_asked_for() -> None:
    """All that a rank and a driver import of what we require ourselves."""
    import subprocess
    from importlib.metadata import packages_distributions

    program = (
        "import sys\n"
        "import orchestrator.trial.driver, orchestrator.trial.rank_process, orchestrator.trial.teacher\n"
        "import cpsc_core.rank, cpsc_core.trial, cpsc_core.teacher, cpsc_core.teacher_training\n"
        "from cpsc_core.data.digits import DIGITS\n"
        "DIGITS.fingerprint()\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    required = {
        each.partition(";")[0].partition(">")[0].partition("[")[0].strip()
        for each in __import__("importlib.metadata").metadata.requires("cpsc-orchestrate") or []
        if "extra ==" not in each
    }
    owners = packages_distributions()
    used = {owner.lower() for name in loaded for owner in owners.get(name, [])} & required

    assert used - {"pydantic", "pyyaml", "rich"} <= set(NEEDED)  # those come with Ray
