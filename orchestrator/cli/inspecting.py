"""Commands that look at sweeps: how one stands, what is best, and the MLflow window."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import Any

import click

from orchestrator.cli.frame import (
    DEFAULT_STORAGE,
    PROGRAM,
    Command,
    json_option,
    print_facts,
    print_json,
    show,
    storage_option,
    sweep_argument,
)
from orchestrator.errors import UsageError
from orchestrator.store.address import BucketAddress, Storage
from orchestrator.store.folder import SweepFolder, find_sweep
from orchestrator.store.paths import StoragePaths
from orchestrator.store.relay import push_views

__all__ = ["INSPECTING"]


@click.command("status", cls=Command)
@sweep_argument
@json_option
@click.option("--watch", is_flag=True, help="Look again every two seconds until the sweep ends.")
def _status(sweep: str, storage: Storage, as_json: bool, watch: bool) -> None:
    """Show how SWEEP stands.

    Its trials, failures with their causes, and the best so far.

    \b
    Example:
      cpsc-orchestrate status digits --watch
    """
    from orchestrator.cli.watch import watch_status
    from orchestrator.report.status import render_status, status_document

    folder = find_sweep(sweep, storage)
    if watch and as_json:
        raise UsageError("--json prints one document and --watch many; choose one of them")
    if watch:
        watch_status(folder, sys.stdout)
        return
    document, mirror = status_document(folder), _mirror_document(folder)
    if as_json:
        print_json(document | {"mirror": mirror})
        return
    show(render_status(document))
    if mirror["backlog"]:
        command = f"{PROGRAM} sync {folder.paths.address}"
        click.echo(f"MLflow at {mirror['uri']} lacks {mirror['backlog']} trial(s); `{command}` sends them")


@click.command("best", cls=Command)
@sweep_argument
@json_option
def _best(sweep: str, storage: Storage, as_json: bool) -> None:
    """Show the best of SWEEP and where its student lies.

    \b
    Example:
      cpsc-orchestrate best digits --json
    """
    from orchestrator.report.best import best_document
    from orchestrator.report.closing import closing_text

    folder = find_sweep(sweep, storage)
    document = best_document(folder)
    if as_json:
        print_json(document)
    else:
        show(closing_text(folder))


@click.command("sync", cls=Command)
@sweep_argument
@click.option(
    "--to",
    "uri",
    metavar="URI",
    help="Mirror to this tracking URI. Default: the sweep's own, or MLflow here.",
)
@click.option(
    "--register/--no-register",
    default=True,
    show_default=True,
    help="Put the best student of a finished sweep into the model registry.",
)
@json_option
def _sync(sweep: str, storage: Storage, uri: str | None, register: bool, as_json: bool) -> None:
    """Mirror SWEEP to MLflow again, from its folders.

    What is there already is left alone; a server that has nothing of it gets all of it.

    \b
    Examples:
      cpsc-orchestrate sync digits
      cpsc-orchestrate sync digits --to http://mlflow.example:5000
    """
    from orchestrator.mirror import Mirror, public_uri

    folder = find_sweep(sweep, storage)
    uri = uri or _own_uri(folder)
    mirror = Mirror(uri, folder.paths)
    sent = asdict(mirror.sync())
    registered = mirror.register_best() if register else None
    push_views(folder.paths)
    if as_json:
        told = {"sweep": folder.name, "tracking_uri": public_uri(uri), **sent, "registered": registered}
        print_json(told)
        return
    counts = ", ".join(f"{count} {what}" for what, count in sent.items() if count)
    click.echo(f"{folder.name} is mirrored to {public_uri(uri)}; sent: {counts or 'nothing was missing'}")
    if registered is not None:
        click.echo(f"the best student is version {registered['version']} of model {registered['name']}")


@click.command("ui", cls=Command)
@storage_option(default=DEFAULT_STORAGE)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port to listen on."
)
def _ui(storage: Storage, host: str, port: int) -> None:
    """Browse the sweeps of a storage folder in MLflow.

    The server runs until Ctrl-C and listens on this machine only, unless --host says otherwise.

    \b
    Example:
      cpsc-orchestrate ui --port 5001
    """
    from orchestrator.mirror import ui_command
    from orchestrator.mirror.server import sweep_pages

    if isinstance(storage, BucketAddress):
        raise UsageError(
            f"{storage} has no MLflow database: the server that tracking.uri names shows the sweeps there"
        )
    place = StoragePaths(storage)
    if not place.mlflow_database.is_file():
        raise UsageError(
            f"{storage} has no MLflow database yet; "
            f"start a sweep there, or fill it with `cpsc-orchestrate sync SWEEP --storage {storage}`"
        )
    arguments, environment = ui_command(place, None, host, port)
    click.echo(f"MLflow listens at http://{host}:{port} until Ctrl-C")
    print_facts(sweep_pages(place, f"http://{host}:{port}"))
    os.execvpe(arguments[0], arguments, environment)  # noqa: S606


def _own_uri(folder: SweepFolder) -> str:
    """Where the sweep itself is mirrored, with whatever a driver needs to know."""
    from orchestrator.mirror import default_uri

    return folder.manifest.get("tracking_uri") or default_uri(folder.paths.storage)


def _mirror_document(folder: SweepFolder) -> dict[str, Any]:
    """Where the sweep is mirrored, and how many trials lack something there; asks no server."""
    from orchestrator.mirror import Mirror, public_uri

    uri = _own_uri(folder)
    return {"uri": public_uri(uri), "backlog": Mirror(uri, folder.paths).backlog()}


INSPECTING = (_status, _best, _sync, _ui)
