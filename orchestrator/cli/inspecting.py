"""Commands that look at sweeps: how one stands, what is best, and the MLflow window."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from orchestrator.cli.frame import (
    DEFAULT_STORAGE,
    Command,
    json_option,
    print_json,
    show,
    storage_option,
    sweep_argument,
)
from orchestrator.errors import UsageError
from orchestrator.store.folder import find_sweep
from orchestrator.store.paths import StoragePaths

__all__ = ["INSPECTING"]


@click.command("status", cls=Command)
@sweep_argument
@json_option
@click.option("--watch", is_flag=True, help="Look again every two seconds until the sweep ends.")
def _status(sweep: str, storage: Path, as_json: bool, watch: bool) -> None:
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
    if as_json:
        print_json(status_document(folder))
    elif watch:
        watch_status(folder, sys.stdout)
    else:
        show(render_status(status_document(folder)))


@click.command("best", cls=Command)
@sweep_argument
@json_option
def _best(sweep: str, storage: Path, as_json: bool) -> None:
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
@json_option
def _sync(sweep: str, storage: Path, as_json: bool) -> None:
    """Mirror SWEEP to MLflow again, from its folders.

    What is there already is left alone.

    \b
    Example:
      cpsc-orchestrate sync digits
    """
    from orchestrator.mirror import Mirror, default_uri
    from orchestrator.report.best import tracking_uri

    folder = find_sweep(sweep, storage)
    mirror = Mirror(folder.manifest.get("tracking_uri") or default_uri(folder.paths.storage), folder.paths)
    sent = asdict(mirror.sync())
    if as_json:
        print_json({"sweep": folder.name, "tracking_uri": tracking_uri(folder), **sent})
    else:
        counts = ", ".join(f"{count} {what}" for what, count in sent.items() if count)
        click.echo(
            f"{folder.name} is mirrored to {tracking_uri(folder)}; sent: {counts or 'nothing was missing'}"
        )


@click.command("ui", cls=Command)
@storage_option(default=DEFAULT_STORAGE)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port to listen on."
)
def _ui(storage: Path, host: str, port: int) -> None:
    """Browse the sweeps of a storage folder in MLflow.

    The server runs until Ctrl-C and listens on this machine only, unless --host says otherwise.

    \b
    Example:
      cpsc-orchestrate ui --port 5001
    """
    from orchestrator.mirror import ui_command

    place = StoragePaths(storage)
    if not place.mlflow_database.is_file():
        raise UsageError(
            f"{storage} has no MLflow database yet; "
            f"start a sweep there, or fill it with `cpsc-orchestrate sync SWEEP --storage {storage}`"
        )
    arguments, environment = ui_command(place, None, host, port)
    click.echo(f"MLflow listens at http://{host}:{port} until Ctrl-C")
    os.execvpe(arguments[0], arguments, environment)  # noqa: S606


INSPECTING = (_status, _best, _sync, _ui)
