"""What a sweep's own run carries: the leaderboard, the best experiment, Optuna's figures, the report."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.mirror.tracker import Attachment
from orchestrator.store.folder import SweepFolder

__all__ = ["Overview", "sweep_overview"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What people look for first."""

    note: str | None = None
    """Markdown that the run's page opens with."""
    files: list[Attachment] = field(default_factory=list)
    """leaderboard.md and best.yaml, and of an ended sweep figures.html and report.html too."""


def sweep_overview(folder: SweepFolder, *, ended: bool) -> Overview:
    """The overview of a sweep as it stands; empty while no trial is complete."""
    # What is imported here imports the ledger of the mirror, and Optuna's figures take seconds to import.
    from orchestrator.report.best_file import best_experiment
    from orchestrator.report.leaderboard import leaderboard_document
    from orchestrator.report.markdown import leaderboard_markdown
    from orchestrator.report.snapshot import SweepSnapshot

    folder = SweepSnapshot(folder.paths)
    document = leaderboard_document(folder)
    if not document["rows"]:
        return Overview()
    leaderboard = leaderboard_markdown(document)
    files = [Attachment("leaderboard.md", leaderboard_markdown(document, limit=1000).encode())]
    if folder.paths.experiment.exists() and (best := best_experiment(folder)) is not None:
        files.append(Attachment("best.yaml", best.encode()))
    return Overview(note=leaderboard, files=[*files, *_pages(folder)] if ended else files)


def _pages(folder: SweepFolder) -> list[Attachment]:
    from orchestrator.study.view import figures_page, study_of

    pages = []
    if (figures := figures_page(study_of(folder))) is not None:
        pages.append(Attachment("figures.html", figures.encode()))
    if folder.paths.report.exists():
        pages.append(Attachment("report.html", folder.paths.report.read_bytes()))
    return pages
