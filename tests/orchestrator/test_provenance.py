import subprocess
from pathlib import Path

from orchestrator.provenance import git_state, package_versions


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_a_commit_and_whether_the_tree_has_changed_since_are_noted(tmp_path: Path) -> None:
    git(tmp_path, "init")
    (tmp_path / "x.yaml").write_text("name: x")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = git_state(tmp_path)
    (tmp_path / "x.yaml").write_text("name: y")

    assert clean["dirty"] is False
    assert git_state(tmp_path) == {"commit": clean["commit"], "dirty": True}


def test_outside_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path) == {"commit": None, "dirty": None}


def test_the_versions_that_decide_a_result_are_noted() -> None:
    assert {"python", "torch", "ray", "optuna", "mlflow", "cpsc-orchestrate"} <= package_versions().keys()
