"""The MLflow server of the compose file gets its secrets from files, and keeps them out of sight."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "docker/mlflow_server.py"

BOTO3 = """
class client:
    def __init__(self, kind, *, endpoint_url, aws_access_key_id, aws_secret_access_key):
        self.where = f"at {endpoint_url} with {aws_access_key_id} and {aws_secret_access_key}"
    def list_buckets(self):
        return {"Buckets": [{"Name": "others"}]}
    def create_bucket(self, Bucket):
        print("bucket", Bucket, self.where, flush=True)
"""


def load() -> ModuleType:
    specification = importlib.util.spec_from_file_location("mlflow_server", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    secrets = {
        "DATABASE_PASSWORD_FILE": "p/w@rd\n",
        "S3_ACCESS_KEY_FILE": "key",
        "S3_SECRET_KEY_FILE": "secret",
    }
    for name, secret in secrets.items():
        (tmp_path / name).write_text(secret)
    return {name: str(tmp_path / name) for name in secrets}


def test_the_secrets_of_the_files_reach_the_server_in_its_environment(environment: dict[str, str]) -> None:
    made = load().server_environment(environment)

    assert made["MLFLOW_BACKEND_STORE_URI"] == "postgresql+psycopg2://mlflow:p%2Fw%40rd@database:5432/mlflow"
    assert (made["AWS_ACCESS_KEY_ID"], made["AWS_SECRET_ACCESS_KEY"]) == ("key", "secret")


def test_the_server_runs_no_jobs_and_loads_no_pickles_whatever_it_is_told(
    environment: dict[str, str],
) -> None:
    made = load().server_environment(environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true"})

    assert made["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert made["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert made["MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS"] == "false"


def test_the_server_starts_with_a_bucket_and_with_no_secret_among_its_arguments(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "boto3.py").write_text(BOTO3)
    mlflow = tmp_path / "mlflow"
    mlflow.write_text('#!/bin/sh\necho "mlflow $*"\n')
    mlflow.chmod(0o755)
    settings = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "PYTHONPATH": str(tmp_path),
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://models/mlflow",
        "MLFLOW_S3_ENDPOINT_URL": "http://objects:9000",
    }

    ran = subprocess.run(
        [sys.executable, SCRIPT], env=settings | environment, capture_output=True, text=True, check=True
    )

    assert ran.stdout.splitlines() == [
        "bucket models at http://objects:9000 with key and secret",
        "mlflow server --host 0.0.0.0 --port 5000 --workers 2",
    ]


@pytest.mark.parametrize("name", ["DATABASE_PASSWORD_FILE", "S3_ACCESS_KEY_FILE", "S3_SECRET_KEY_FILE"])
def test_a_secret_that_is_missing_or_empty_is_named(environment: dict[str, str], name: str) -> None:
    server = load()

    with pytest.raises(SystemExit, match=f"{name} is not set"):
        server.server_environment({key: value for key, value in environment.items() if key != name})
    with pytest.raises(SystemExit, match=f"{name}: cannot read"):
        server.server_environment(environment | {name: "/nowhere"})
    Path(environment[name]).write_text("\n")
    with pytest.raises(SystemExit, match=f"{name}: .* is empty"):
        server.server_environment(environment)


def test_a_check_of_a_server_that_does_not_answer_fails_in_one_line() -> None:
    server = (
        "import runpy, sys, urllib.error, urllib.request\n"
        "def refuse(*_, **__): raise urllib.error.URLError('refused')\n"
        "urllib.request.urlopen = refuse\n"
        f"sys.argv = ['mlflow_server.py', '--check']\nrunpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )

    ran = subprocess.run([sys.executable, "-c", server], capture_output=True, text=True)

    assert ran.returncode == 1
    assert ran.stderr == "MLflow does not answer on port 5000: <urlopen error refused>\n"
