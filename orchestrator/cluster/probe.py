"""What is looked at on a machine of the cluster before it may run trials.

These functions are sent there by value and run where nothing of ours need be installed, so they import the
standard library alone, within themselves.
"""

from __future__ import annotations

from typing import Any

__all__ = ["digest_code", "look"]


def look(wish: dict[str, Any]) -> dict[str, Any]:
    """What is true on this machine, as plain values: see `orchestrator.cluster.preflight` for the keys."""
    import platform
    import socket

    return {
        "name": socket.gethostname(),
        "python": platform.python_version(),
        "versions": _versions(wish["distributions"]),
        "code": digest_code(wish["packages"]),
        "code_from": _code_folder(wish["packages"]),
        "plugins": _plugins(wish["packages"]),
        "storage": _visit(wish["nonce"], wish["signature"]) if wish["nonce"] else None,
        "bucket": _visit_bucket(wish["bucket"], wish["signature"]) if wish["bucket"] else None,
        "folders": {folder: _readable(folder) for folder in wish["folders"]},
        "cache": _writable_cache(),
        "free": _free(wish["nonce"]),
        "interfaces": _interfaces(),
        "gpus": _gpus() if wish["gpus"] else None,
    }


def digest_code(packages: list[str]) -> str | None:
    """Digest of the Python files of packages as they would be imported here; None if one is not there."""
    import hashlib
    from importlib.util import find_spec
    from pathlib import Path

    digest = hashlib.sha256()
    for package in packages:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            return None
        folder = Path(spec.origin).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(folder).as_posix()}\0".encode())
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def _code_folder(packages: list[str]) -> str | None:
    from importlib.util import find_spec

    spec = find_spec(packages[-1])
    return spec.origin if spec else None


def _versions(distributions: list[str]) -> dict[str, str | None]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _plugins(packages: list[str]) -> dict[str, str]:
    """Installed packages that add networks, data sets or methods, with their versions."""
    from importlib.metadata import distributions

    return {
        each.metadata["Name"]: each.version
        for each in distributions()
        if any(point.group.partition(".")[0] in packages for point in each.entry_points)
    }


def _visit(nonce: str, signature: str) -> dict[str, str]:
    """Read what the controller wrote into the storage, and answer beside it."""
    from pathlib import Path

    path = Path(nonce)
    try:
        read = path.read_text()
        path.with_name(f"{path.name}.{signature}").write_text(f"{signature} {read}")
    except OSError as error:
        return {"error": str(error)}
    return {"read": read}


def _visit_bucket(address: str, signature: str) -> str | None:
    """Why a bucket cannot be used from here; None if it can. Needs our code, which is looked at as well."""
    try:
        from orchestrator.store.address import BucketAddress
        from orchestrator.store.bucket import Bucket

        bucket, key = Bucket(BucketAddress.parse(address), pauses=(0.5,)), f"preflight-{signature}"
        bucket.write(key, signature.encode())
        read = bucket.read(key)
        bucket.delete(key)
    except Exception as error:
        return str(error)
    return None if read == signature.encode() else f"{address} does not give back what was written to it"


def _readable(folder: str) -> str | None:
    """Why a folder cannot be read; None if it can."""
    from pathlib import Path

    try:
        next(Path(folder).iterdir(), None)
    except OSError as error:
        return str(error)
    return None


def _writable_cache() -> str | None:
    """Why the folder for files that are sent here cannot be written; None if it can."""
    import os
    import tempfile
    from pathlib import Path

    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cpsc-orchestrate"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return str(error)


def _free(nonce: str | None) -> dict[str, int]:
    """Free bytes of every place that is written to, by path."""
    import os
    import shutil
    import tempfile
    from pathlib import Path

    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    places = [Path(tempfile.gettempdir()), cache, *([Path(nonce).parent] if nonce else [])]
    return {str(place): shutil.disk_usage(place).free for place in places if place.is_dir()}


def _interfaces() -> list[str]:
    """The names of the network interfaces."""
    import socket

    return sorted(name for _, name in socket.if_nameindex())


def _gpus() -> dict[str, Any]:
    """How many GPUs torch can compute on, asked in a process that sees all that Ray may give away."""
    import json
    import os
    import subprocess
    import sys
    from pathlib import Path

    visible = "CUDA_VISIBLE_DEVICES"
    environment = {name: value for name, value in os.environ.items() if name != visible}
    raylets = Path(f"/proc/{os.getppid()}/environ").read_bytes().decode(errors="replace").split("\0")
    environment |= dict(pair.split("=", 1) for pair in raylets if pair.startswith(f"{visible}="))
    program = (
        "import json, torch\n"
        "count = torch.cuda.device_count()\n"
        "for index in range(count): (torch.ones(8, 8, device=f'cuda:{index}') @ torch.ones(8, 8, "
        "device=f'cuda:{index}')).sum().item()\n"
        "print(json.dumps({'count': count, 'cuda': torch.version.cuda}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
