"""A hook that is told how a sweep ended: one POST of a small JSON document, with no secret in it."""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from orchestrator import __version__
from orchestrator.report.status import found
from orchestrator.report.wording import fixed
from orchestrator.store.folder import SweepFolder
from orchestrator.store.paths import SweepPaths
from orchestrator.web import ask

__all__ = ["Notifier", "message"]

_SECONDS = 10.0
_TRIES = 3

_logger = logging.getLogger(__name__)


class Notifier:
    """Tells one address how a sweep ended; an address may hold a token, so it is never written anywhere."""

    def __init__(self, url: str | None, paths: SweepPaths) -> None:
        """Nobody is told if `url` is None."""
        self._url = url
        self._folder = SweepFolder(paths)

    def tell(self) -> None:
        """Send the message; what goes wrong is logged with the host alone, and never raised."""
        if self._url is None:
            return
        try:
            content = json.dumps(message(self._folder), allow_nan=False).encode()
            self._post(self._url, content)
        except Exception as error:
            host = urlsplit(self._url).hostname
            _logger.warning("the hook at %s was not told: %s", host, type(error).__name__)

    def _post(self, url: str, content: bytes) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": f"cpsc-orchestrate/{__version__}"}
        request = urllib.request.Request(url, content, headers)  # noqa: S310 - the schema allows http(s) only
        for tried in range(1, _TRIES + 1):
            try:
                ask(request, _SECONDS).close()
                return
            except urllib.error.HTTPError as error:
                if error.code < 500 or tried == _TRIES:
                    raise
            except OSError:
                if tried == _TRIES:
                    raise


def message(folder: SweepFolder) -> dict[str, Any]:
    """What a hook is told: `event` is finished, failed, budget_spent, stopped or interrupted.

    A sweep has failed if no trial was completed, or if its controller could not go on; budget_spent says that
    its budget ended it before every trial was run. `text` is one line for people, the key that chat services
    read.
    """
    manifest, status = folder.manifest, found(folder)
    finished, reason, best = manifest.get("finished"), manifest.get("reason"), status["best"]
    event = _event(finished, reason or "", status["counts"])
    by = f"; best {fixed(best['objective'])} by trial {best['number']}" if best else ""
    return {
        "event": event,
        "text": f"{folder.name}: {event.replace('_', ' ')}{f' ({reason})' if reason else ''}{by}",
        "sweep": folder.name,
        "reason": reason,
        "counts": status["counts"],
        "best": best,
    }


def _event(finished: str | None, reason: str, counts: dict[str, int]) -> str:
    if finished in ("stopped", "interrupted"):
        return finished
    if finished is None or not counts["complete"]:
        return "failed"
    return "budget_spent" if reason.startswith("budget spent") else "finished"
