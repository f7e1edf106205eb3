"""trials.parquet and metrics.parquet: views of the folders for other tools, never read by a resume."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpsc_core.attempt import replacing
from orchestrator.keeper import Keeper
from orchestrator.mirror.ledger import look
from orchestrator.store.folder import SweepFolder, TrialFolder

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Views", "keep_views"]

_GRACE_SECONDS = 30.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Seen:
    look: list[Any]
    row: dict[str, Any]
    metrics: pa.Table


class Views:
    """The two Parquet files of one sweep."""

    def __init__(self, folder: SweepFolder) -> None:
        """Views of `folder`; nothing is read yet."""
        self._folder = folder
        self._seen: dict[str, _Seen] = {}

    def write(self) -> bool:
        """Bring both files up to date, whole or not at all; whether anything had changed.

        A trial that has not changed since the last call is not read again. Raises OSError on a full disk.
        """
        seen = {trial.name: self._read(trial) for trial in self._folder.trials()}
        paths = self._folder.paths
        is_there = paths.trials_table.exists() and paths.metrics_table.exists()
        if is_there and [each.look for each in seen.values()] == [each.look for each in self._seen.values()]:
            return False
        self._seen = seen
        # Arrow takes a tenth of a second to import, and a sweep that is asked for its status needs none.
        import pyarrow.parquet as pq

        from orchestrator.report.tables import join_metrics, join_rows

        for path, table in (
            (paths.trials_table, join_rows([each.row for each in seen.values()])),
            (paths.metrics_table, join_metrics([each.metrics for each in seen.values()])),
        ):
            with replacing(path) as draft:
                pq.write_table(table, draft)
        return True

    def _read(self, trial: TrialFolder) -> _Seen:
        from orchestrator.report.tables import metrics_table, trial_row

        now = look(trial.paths)
        before = self._seen.get(trial.name)
        if before is not None and before.look == now:
            return before
        return _Seen(now, trial_row(trial), metrics_table(trial))


def keep_views(folder: SweepFolder, interval_seconds: float = 30.0) -> Keeper:
    """A context manager: while its block runs, the views follow the folders, and once more on leaving.

    It never raises into the controller: what goes wrong is logged.
    """
    views = Views(folder)

    def update() -> None:
        try:
            views.write()
        except Exception:
            _logger.warning("the Parquet views of %s could not be written", folder.name, exc_info=True)

    return Keeper("views", update, interval_seconds=interval_seconds, grace_seconds=_GRACE_SECONDS)
