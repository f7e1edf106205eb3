"""Whether what lies beyond this machine answers: a Ray cluster with its token, and MLflow."""

from __future__ import annotations

import os
import sqlite3
import urllib.error
from collections.abc import Iterable, Mapping
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cluster.access import token_file
from orchestrator.credentials import is_in_the_clear
from orchestrator.doctor.check import Check, Verdict
from orchestrator.errors import OrchestratorError
from orchestrator.mirror.uri import database_path, default_uri, is_server, public_uri
from orchestrator.store.address import BucketAddress, Storage
from orchestrator.store.folder import read_json
from orchestrator.store.paths import StoragePaths
from orchestrator.web import ask

if TYPE_CHECKING:
    from orchestrator.cluster.capacity import Cluster

__all__ = ["examine_cluster", "examine_mlflow", "tracking_uris"]

_SECONDS = 5.0
_READABLE_BY_OTHERS = 0o077


def examine_cluster(
    address: str | None, storage: Storage, environment: Mapping[str, str] = os.environ
) -> list[Check]:
    """Join a cluster, look at its nodes as a sweep would, and leave again; nothing without an address.

    Whether nodes share a storage folder is looked at only if it exists.
    """
    if address is None:
        return []
    from orchestrator.cluster.scratch import new_scratch
    from orchestrator.cluster.session import open_cluster

    token = _token(environment)
    try:
        with open_cluster(address, new_scratch()) as cluster:
            cpus, gpus = (sum(getattr(node, kind) for node in cluster.nodes) for kind in ("cpus", "gpus"))
            finding = f"{len(cluster.nodes)} node(s) with {cpus:g} CPUs and {gpus:g} GPUs at {address}"
            is_there = isinstance(storage, BucketAddress) or storage.is_dir()
            nodes = _nodes(cluster, storage if is_there else None)
    except OrchestratorError as error:
        found, _, advice = str(error).rpartition("; ")
        return [token, Check(name="cluster", verdict=Verdict.FAIL, finding=found, advice=advice, code=3)]
    return [token, Check(name="cluster", verdict=Verdict.OK, finding=finding), *nodes]


def _nodes(cluster: Cluster, storage: Storage | None) -> list[Check]:
    from orchestrator.cluster.preflight import Preflight

    with Preflight(storage, gpus=cluster.has_gpus) as preflight:
        faults = preflight.examine(node for node in cluster.nodes if node.cpus)
    checks = [
        Check(
            name=f"node {node}",
            verdict=Verdict.FAIL,
            finding=fault.finding,
            advice=fault.advice,
            code=fault.code,
        )
        for node, found in faults.items()
        for fault in found
    ]
    shared = "" if storage is None else f", and share {storage}"
    fit = f"{len(faults)} node(s) have what trials need{shared}"
    return checks or [Check(name="nodes", verdict=Verdict.OK, finding=fit)]


def _token(environment: Mapping[str, str]) -> Check:
    """Where this process has the cluster's token from; who has it can run code there."""
    name = "cluster token"
    if environment.get("RAY_AUTH_TOKEN"):
        return Check(name=name, verdict=Verdict.OK, finding="in RAY_AUTH_TOKEN")
    path = token_file(environment)
    try:
        mode = path.stat().st_mode
    except OSError:
        advice = "copy the head's ~/.ray/auth_token to a private file and name it in RAY_AUTH_TOKEN_PATH"
        return Check(name=name, verdict=Verdict.WARN, finding=f"there is no file {path}", advice=advice)
    if mode & _READABLE_BY_OTHERS:
        finding = f"others may read {path}, and with it run code on the cluster"
        return Check(name=name, verdict=Verdict.WARN, finding=finding, advice=f"chmod 600 {path}")
    return Check(name=name, verdict=Verdict.OK, finding=f"in {path}")


def tracking_uris(storage: Path) -> list[str]:
    """Where the sweeps of a storage folder are mirrored, the default database first, each once."""
    named = {_tracking_uri(path) for path in storage.glob("*/manifest.json")} - {None}
    return [default_uri(StoragePaths(storage)), *sorted(map(str, named))]


def _tracking_uri(manifest: Path) -> str | None:
    """Where a sweep says that it is mirrored; None if it says nothing, or nothing that can be read."""
    try:
        return (read_json(manifest) or {}).get("tracking_uri")
    except (OrchestratorError, OSError):
        return None


def examine_mlflow(uris: Iterable[str]) -> list[Check]:
    """Whether MLflow answers at each URI; a sweep runs without it, so nothing here fails."""
    return [_server(uri) if is_server(uri) else _database(uri) for uri in uris]


def _server(uri: str) -> Check:
    name, where = "MLflow", public_uri(uri)
    ours = metadata.version("mlflow")
    address = f"{where.rstrip('/')}/version"
    try:
        with ask(address, _SECONDS) as answer:
            theirs = answer.read(100).decode().strip()
    except urllib.error.HTTPError as error:
        advice = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        if error.code not in (401, 403):
            advice = "check the address; sweeps run without it, and `cpsc-orchestrate sync` catches up"
        return Check(name=name, verdict=Verdict.WARN, finding=f"{where} answers {error.code}", advice=advice)
    except (OSError, ValueError) as error:
        advice = (
            "start it or check the address; sweeps run without it, and `cpsc-orchestrate sync` catches up"
        )
        reason = getattr(error, "reason", error)
        return Check(name=name, verdict=Verdict.WARN, finding=f"{where}: {reason}", advice=advice)
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        advice = f"upgrade the server to mlflow {ours}, or install mlflow {theirs} here"
        finding = f"{where} has version {theirs}, here is {ours}"
        return Check(name=name, verdict=Verdict.WARN, finding=finding, advice=advice)
    if is_in_the_clear(uri):
        finding = f"{where} is plain http: what sweeps send can be read on the way"
        return Check(name=name, verdict=Verdict.WARN, finding=finding, advice="use https, or a tunnel")
    return Check(name=name, verdict=Verdict.OK, finding=f"{where}, version {theirs}")


def _database(uri: str) -> Check:
    """A SQLite database is looked into; another one is MLflow's to reach."""
    name, path = "MLflow", database_path(uri)
    if path is None:
        finding = f"{public_uri(uri)} is reached when a sweep mirrors to it"
        return Check(name=name, verdict=Verdict.OK, finding=finding)
    try:
        if not path.exists():
            return Check(name=name, verdict=Verdict.OK, finding=f"{path} will be made by the first sweep")
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_SECONDS)) as database:
            (count,) = database.execute("select count(*) from experiments").fetchone()
    except OSError as error:
        advice = "give this user access to the folder, or name another one with --storage"
        return Check(name=name, verdict=Verdict.FAIL, finding=str(error), advice=advice, code=3)
    except sqlite3.Error as error:
        advice = f"move it away and fill a new one with `cpsc-orchestrate sync SWEEP --storage {path.parent}`"
        return Check(name=name, verdict=Verdict.WARN, finding=f"{path}: {error}", advice=advice)
    return Check(name=name, verdict=Verdict.OK, finding=f"{path} with {count} experiments")
