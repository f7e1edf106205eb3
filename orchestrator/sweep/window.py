"""What shows a sweep while it runs and once it ends: MLflow, the Parquet views, the report, a hook."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from orchestrator.config import SweepConfig
from orchestrator.credentials import is_in_the_clear
from orchestrator.errors import FencedError, OrchestratorError, SilencedError
from orchestrator.mirror import Background, Mirror, default_uri, public_uri
from orchestrator.report.views import keep_views
from orchestrator.store.folder import SweepFolder
from orchestrator.store.ownership import Ownership
from orchestrator.store.paths import SweepPaths
from orchestrator.sweep.notify import Notifier

__all__ = ["Window"]

_logger = logging.getLogger(__name__)


class Window:
    """A context manager: while its block runs, the views follow the folders.

    On leaving it writes them a last time, then the report, then brings MLflow up to date, and last tells the
    sweep's hook how the sweep ended; the manifest should say so by then. Nothing of that happens to a sweep
    that was taken over meanwhile; if that is not sure, the hook alone is told. It never raises into the
    controller.
    """

    def __init__(
        self, paths: SweepPaths, config: SweepConfig, lease: Ownership, say: Callable[[str], None]
    ) -> None:
        """Nothing is begun before the block is entered; `say` is told what leaving waits for."""
        self._say = say
        self._lease = lease
        self._folder = SweepFolder(paths)
        uri = config.tracking.uri or default_uri(paths.storage)
        if is_in_the_clear(uri):
            say(f"{public_uri(uri)} is plain http: what is mirrored there can be read on the way")
        self.mirror = Background(Mirror(uri, paths), registers=config.tracking.register_best)
        self._views = keep_views(self._folder)
        self._notifier = Notifier(config.notify.url, paths)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.push(self._tell)
        self._stack.enter_context(self.mirror)
        self._stack.push(self._report)
        self._stack.enter_context(self._views)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._lease.check()
        except FencedError as lost:
            kind, error, trace = type(lost), lost, lost.__traceback__
        except (OrchestratorError, OSError):
            _logger.warning("whose %s is cannot be told", self._folder.name, exc_info=True)
        self._stack.__exit__(kind, error, trace)

    def _tell(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Another controller will tell, if there is one for sure."""
        if not isinstance(error, FencedError) or isinstance(error, SilencedError):
            self._notifier.tell()

    def _report(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, FencedError):
            return
        self._say("writing the report and bringing MLflow up to date")
        # Optuna, which ranks the parameters, takes most of a second to import.
        from orchestrator.report.page.page import write_report

        try:
            write_report(self._folder)
        except OrchestratorError as error:
            _logger.info("no report: %s", error)
        except Exception:
            _logger.warning("the report of %s could not be written", self._folder.name, exc_info=True)
