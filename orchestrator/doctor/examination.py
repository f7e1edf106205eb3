"""Whether this machine can run sweeps, and what to do where it cannot."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from cpsc_core.attempt import replacing
from orchestrator.doctor.bucket import examine_bucket
from orchestrator.doctor.check import Check, Verdict
from orchestrator.doctor.compute import examine_compute
from orchestrator.doctor.reach import examine_cluster, examine_mlflow, tracking_uris
from orchestrator.doctor.views import examine_views
from orchestrator.mirror import default_uri
from orchestrator.report.wording import size
from orchestrator.store.address import BucketAddress, Storage
from orchestrator.store.paths import StoragePaths
from orchestrator.store.working_copy import open_storage, refresh

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["doctor_document", "examine", "exit_code", "failures", "render_doctor"]

_DISTRIBUTION = "cpsc-orchestrate"
_LITTLE_DISK = 5 * 1024**3
_NO_DISK = 200 * 1024**2
_SHARED_MEMORY = 256 * 1024**2
_LONGEST_SOCKET_PATH = 107 if sys.platform == "linux" else 103
# What a private Ray adds to the folder of temporary files before its longest socket.
_SOCKET_SUFFIX = (
    "/cpsc-ray-1234567-1234567890/r/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
)


def examine(storage: Storage, *, address: str | None = None, fix: bool = False) -> list[Check]:
    """Look at everything a sweep below `storage` needs; takes seconds and leaves nothing behind.

    With an address the cluster there is joined and left again; with `fix` the views of sweeps that nobody
    runs are written again where they disagree with the folders.
    """
    return [
        *_installation(),
        *examine_compute(),
        _processors(),
        _shared_memory(),
        _socket_paths(Path(tempfile.gettempdir())),
        *(
            _storage_in_bucket(storage, address, fix)
            if isinstance(storage, BucketAddress)
            else _storage_in_folder(storage, address, fix)
        ),
    ]


def exit_code(checks: Sequence[Check]) -> int:
    """0, or what the gravest failed check asks for."""
    return max((check.code for check in checks if check.verdict is Verdict.FAIL), default=0)


def failures(checks: Sequence[Check]) -> str:
    """Why no sweep can run, in one sentence."""
    failed = (f"{check.name}: {check.finding}" for check in checks if check.verdict is Verdict.FAIL)
    return f"no sweep can run here: {'; '.join(failed)}"


def doctor_document(checks: Sequence[Check]) -> dict[str, Any]:
    """The checks as plain JSON values."""
    rows = [{key: value for key, value in asdict(check).items() if key != "code"} for check in checks]
    return {"ok": exit_code(checks) == 0, "checks": rows}


def render_doctor(checks: Sequence[Check]) -> Table:
    """The checks as a table."""
    from rich.table import Table
    from rich.text import Text

    styles = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}
    table = Table(box=None, pad_edge=False)
    for heading in ("check", "verdict"):
        table.add_column(heading, no_wrap=True)
    for heading in ("finding", "what to do next"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        verdict = Text(check.verdict, style=styles[check.verdict])
        table.add_row(check.name, verdict, Text(check.finding), Text(check.advice or ""))
    return table


def _installation() -> list[Check]:
    """Python and every required package, against what the installed distribution declares."""
    try:
        ours = metadata.distribution(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        finding = f"{_DISTRIBUTION} runs from a folder, so its requirements are not known"
        advice = "run `pip install .` in that folder"
        return [Check(name="installation", verdict=Verdict.FAIL, finding=finding, advice=advice)]
    requirements = [Requirement(text) for text in ours.requires or []]
    needed = [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    return [_python(ours.metadata["Requires-Python"]), *(_package(each) for each in needed)]


def _python(wanted: str) -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if SpecifierSet(wanted).contains(version):
        return Check(name="python", verdict=Verdict.OK, finding=version)
    advice = f"make a virtual environment with Python {wanted}"
    return Check(name="python", verdict=Verdict.FAIL, finding=f"{version}, needed {wanted}", advice=advice)


def _package(requirement: Requirement) -> Check:
    name, wanted = requirement.name, requirement.specifier
    requirement.marker = None
    advice = f"pip install {str(requirement)!r}"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name=name, verdict=Verdict.FAIL, finding=f"missing, needed {wanted}", advice=advice)
    if wanted.contains(version, prereleases=True):
        return Check(name=name, verdict=Verdict.OK, finding=version)
    return Check(name=name, verdict=Verdict.WARN, finding=f"{version}, tested with {wanted}", advice=advice)


def _processors() -> Check:
    usable = len(os.sched_getaffinity(0))
    if usable > 1:
        return Check(name="processors", verdict=Verdict.OK, finding=f"{usable} CPUs")
    advice = "trials share one CPU with the controller; allow this process more of them"
    return Check(name="processors", verdict=Verdict.WARN, finding="1 CPU", advice=advice)


def _shared_memory(folder: Path = Path("/dev/shm")) -> Check:  # noqa: S108
    if not folder.is_dir():
        return Check(name="shared memory", verdict=Verdict.OK, finding=f"no {folder} on this system")
    total = shutil.disk_usage(folder).total
    if total >= _SHARED_MEMORY:
        return Check(name="shared memory", verdict=Verdict.OK, finding=f"{folder} has {size(total)}")
    return Check(
        name="shared memory",
        verdict=Verdict.WARN,
        finding=f"{folder} has {size(total)}, Ray wants {size(_SHARED_MEMORY)}",
        advice="start the container with --shm-size=1g; Ray uses slow files otherwise",
    )


def _socket_paths(temporary: Path) -> Check:
    longest = len(f"{temporary}{_SOCKET_SUFFIX}")
    if longest <= _LONGEST_SOCKET_PATH:
        return Check(name="temporary files", verdict=Verdict.OK, finding=str(temporary))
    return Check(
        name="temporary files",
        verdict=Verdict.FAIL,
        finding=f"{temporary} is too long: sockets need {longest} of {_LONGEST_SOCKET_PATH} characters",
        advice="set TMPDIR to a short path such as /tmp",
    )


def _storage_in_folder(storage: Path, address: str | None, fix: bool) -> list[Check]:
    return [
        *_storage(storage),
        *examine_cluster(address, storage),
        *examine_mlflow(tracking_uris(storage)),
        *examine_views(storage, fix=fix),
    ]


def _storage_in_bucket(storage: BucketAddress, address: str | None, fix: bool) -> list[Check]:
    """Whether the bucket keeps what is written, and what the sweeps in it look like."""
    kept = examine_bucket(storage)
    checks = [kept, *examine_cluster(address, storage)]
    if kept.verdict is Verdict.OK:
        root = open_storage(storage)
        refresh(root)
        servers = [uri for uri in tracking_uris(root) if uri != default_uri(StoragePaths(root))]
        checks += [*examine_mlflow(servers), *examine_views(root, fix=fix)]
    return checks


def _storage(storage: Path) -> list[Check]:
    """Whether the storage folder, or the nearest folder above it that exists, keeps what is written."""
    where = str(storage)
    try:
        place = next(each for each in (storage, *storage.parents) if each.exists())
        where = where if place == storage else f"{storage} (will be made in {place})"
        with tempfile.TemporaryDirectory(prefix=".cpsc-doctor-", dir=place) as folder:
            _write_and_rename(Path(folder) / "probe")
            locks = _locks(Path(folder) / "lock")
        free = shutil.disk_usage(place).free
    except OSError as error:
        finding = f"{where}: {error.strerror or error}"
        advice = "make it writable, or name another folder with --storage"
        return [Check(name="storage", verdict=Verdict.FAIL, finding=finding, advice=advice, code=3)]
    return [Check(name="storage", verdict=Verdict.OK, finding=where), _locking(locks), _space(free)]


def _write_and_rename(path: Path) -> None:
    """Write a file the way every record is written: aside, fsync, rename, fsync of the folder."""
    with replacing(path) as draft:
        draft.write_bytes(b"probe")
    if path.read_bytes() != b"probe":
        raise OSError("a file that was written reads back differently")


def _locks(path: Path) -> bool:
    """Whether a lock keeps a second holder out; some network file systems only pretend."""
    with path.open("w") as first, path.open("w") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _locking(works: bool) -> Check:
    if works:
        return Check(name="storage locks", verdict=Verdict.OK, finding="a lock keeps a second controller out")
    return Check(
        name="storage locks",
        verdict=Verdict.FAIL,
        finding="flock does not keep a second holder out",
        advice="use a local disk, or mount the share with locks",
        code=3,
    )


def _space(free: int) -> Check:
    verdict = Verdict.FAIL if free < _NO_DISK else Verdict.WARN if free < _LITTLE_DISK else Verdict.OK
    advice = (
        None if verdict is Verdict.OK else "make room; `cpsc-orchestrate plan FILE` says what a sweep needs"
    )
    return Check(name="storage space", verdict=verdict, finding=f"{size(free)} free", advice=advice)
