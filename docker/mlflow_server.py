"""Start MLflow's server with secrets from files, or with `--check` say whether it answers.

Settings come as MLflow's own environment variables. The secrets are read from the files that
DATABASE_PASSWORD_FILE, S3_ACCESS_KEY_FILE and S3_SECRET_KEY_FILE name, and stand in no argument, which
everybody on a machine may read.
"""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

_SAFE = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS": "false",
}


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the server's process gets: `environment`, with the secrets in it and nothing that runs code.

    Raises SystemExit, naming the variable, if a secret is missing.
    """
    password = quote(_secret(environment, "DATABASE_PASSWORD_FILE"), safe="")
    address = f"postgresql+psycopg2://mlflow:{password}@{environment.get('DATABASE', 'database:5432/mlflow')}"
    return {
        **environment,
        **_SAFE,
        "MLFLOW_BACKEND_STORE_URI": address,
        "AWS_ACCESS_KEY_ID": _secret(environment, "S3_ACCESS_KEY_FILE"),
        "AWS_SECRET_ACCESS_KEY": _secret(environment, "S3_SECRET_KEY_FILE"),
    }


def _secret(environment: Mapping[str, str], name: str) -> str:
    try:
        secret = Path(environment[name]).read_text(encoding="utf-8").strip()
    except KeyError:
        raise SystemExit(f"{name} is not set: name the file with this secret") from None
    except OSError as error:
        raise SystemExit(f"{name}: cannot read {environment[name]}: {error.strerror}") from None
    if not secret:
        raise SystemExit(f"{name}: {environment[name]} is empty")
    return secret


def _make_bucket(environment: Mapping[str, str]) -> None:
    """Make the bucket that artifacts go to, unless it is there."""
    import boto3

    store = boto3.client(
        "s3",
        endpoint_url=environment["MLFLOW_S3_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    bucket = environment["MLFLOW_ARTIFACTS_DESTINATION"].removeprefix("s3://").partition("/")[0]
    if bucket not in {each["Name"] for each in store.list_buckets()["Buckets"]}:
        store.create_bucket(Bucket=bucket)


def _check() -> None:
    try:
        urllib.request.urlopen("http://127.0.0.1:5000/health", timeout=5).close()
    except OSError as error:
        raise SystemExit(f"MLflow does not answer on port 5000: {error}") from None


def _serve() -> None:
    environment = server_environment(os.environ)
    _make_bucket(environment)
    command = ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "2"]  # noqa: S104 - the container's own network; compose.yaml publishes it on loopback
    os.execvpe(command[0], command, environment)  # noqa: S606 - a list of our own


if __name__ == "__main__":
    _check() if sys.argv[1:] == ["--check"] else _serve()
