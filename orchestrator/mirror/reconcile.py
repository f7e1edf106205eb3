"""One run: what the server lacks of it, sent. What is held is kept up to date, step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from orchestrator.mirror.tracker import HeldRun, Point, Tracker
from orchestrator.mirror.wanted import PASSING_TAGS, WantedRun

__all__ = ["Synced", "bring_up", "create"]

_ENTITIES_OF_A_REQUEST = 1000
"""Points, parameters and tags that MLflow takes at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What one synchronisation sent."""

    runs: int = 0
    """Runs begun."""
    points: int = 0
    """Values of metrics."""
    images: int = 0
    """Sample grids."""
    files: int = 0
    """Attachments: settings, logs, leaderboards."""
    statuses: int = 0
    """Changes of a run's status."""


def create(tracker: Tracker, wanted: WantedRun, sent: Counter[str]) -> HeldRun:
    """Begin the run; only for a run that the server was asked about and does not hold."""
    held = tracker.create(wanted.name, wanted.started, wanted.tags)
    sent["runs"] += 1
    return held


def bring_up(tracker: Tracker, held: HeldRun, wanted: WantedRun, sent: Counter[str]) -> None:
    """Make the held run the wanted one.

    The status comes before the images, which may be unreadable, and after everything else: a run that is
    shown as finished has all its numbers.
    """
    if held.deleted:
        tracker.restore(held.run_id)
        held.deleted = False
    _send_numbers(tracker, held, wanted, sent)
    _drop_tags(tracker, held, wanted)
    if held.status is not wanted.status:
        tracker.set_status(held.run_id, wanted.status, wanted.ended)
        held.status = wanted.status
        sent["statuses"] += 1
    _send_files(tracker, held, wanted, sent)
    _send_images(tracker, held, wanted, sent)


def _send_numbers(tracker: Tracker, held: HeldRun, wanted: WantedRun, sent: Counter[str]) -> None:
    points = [*(point for point in wanted.points if point.step > held.epoch), *wanted.summary]
    params = {path: value for path, value in wanted.params.items() if path not in held.params}
    tags = {tag: value for tag, value in wanted.tags.items() if held.tags.get(tag) != value}
    batches = list(_batches(points, _ENTITIES_OF_A_REQUEST - len(params) - len(tags)))
    for batch in batches or ([[]] if params or tags else []):
        tracker.send(held.run_id, batch, params, tags)
        held.params |= params.keys()
        held.tags |= tags
        params, tags = {}, {}
        sent["points"] += len(batch)
    held.epoch = max([held.epoch, *(point.step for point in wanted.points)])


def _batches(points: Sequence[Point], limit: int) -> Iterator[list[Point]]:
    """Points in order, as many whole epochs at once as fit.

    Half an epoch must not arrive: a resumed trial may run that epoch again, with another clock.
    """
    batch: list[Point] = []
    for _, epoch in groupby(points, key=lambda point: point.step):
        together = list(epoch)
        if batch and len(batch) + len(together) > limit:
            yield batch
            batch = []
        batch += together
    if batch:
        yield batch


def _drop_tags(tracker: Tracker, held: HeldRun, wanted: WantedRun) -> None:
    for tag in sorted((PASSING_TAGS & held.tags.keys()) - wanted.tags.keys()):
        tracker.drop_tag(held.run_id, tag)
        del held.tags[tag]


def _send_files(tracker: Tracker, held: HeldRun, wanted: WantedRun, sent: Counter[str]) -> None:
    files = {file.name: file for file in wanted.files}
    digests = {name: file.digest for name, file in files.items()}
    if changed := [files[name] for name, digest in digests.items() if held.files.get(name) != digest]:
        tracker.attach(held.run_id, changed)
        held.files |= digests
        sent["files"] += len(changed)


def _send_images(tracker: Tracker, held: HeldRun, wanted: WantedRun, sent: Counter[str]) -> None:
    if held.images is None:
        held.images = tracker.images(held.run_id) if wanted.images else set()
    for image in wanted.images:
        if image.step not in held.images:
            tracker.send_image(held.run_id, image)
            held.images.add(image.step)
            sent["images"] += 1
