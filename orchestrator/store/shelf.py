"""The place of one kept teacher, in a folder or a bucket, and the right to make what is to be kept there."""

from __future__ import annotations

import fcntl
import os
from types import TracebackType
from typing import Self

from cpsc_core.card import TeacherFolder
from orchestrator.errors import OwnedError
from orchestrator.store.address import BucketAddress, Storage
from orchestrator.store.drafts import remove_stale_drafts
from orchestrator.store.object_lease import ObjectLease
from orchestrator.store.working_copy import open_copy

__all__ = ["Shelf"]


class Shelf:
    """A context manager that gives back the right to make a teacher, if it was taken."""

    def __init__(self, teachers: Storage, key: str) -> None:
        """The place of a teacher among those that are kept, as this machine reaches it."""
        self._address: BucketAddress | None = None
        self._lease: ObjectLease | None = None
        self._handle: int | None = None
        if isinstance(teachers, BucketAddress):
            self._address = teachers / key
            self._copy = open_copy(teachers.parent)
            root = self._copy.root / teachers.name
        else:
            root = teachers
        self.folder = root / key
        """Its folder on this machine."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def take(self) -> bool:
        """Whether nobody else is making the teacher; its folder has then all that is kept of it.

        Asked again while it is not so. In a bucket a teacher that is whole is there for all, and not owned.
        """
        if self._address is None:
            return self._lock()
        remove_stale_drafts(self.folder)  # the copy is this process's alone
        card = TeacherFolder(self.folder).card
        if not self._copy.holds(card):
            try:
                self._lease = ObjectLease.acquire(self._address)
            except OwnedError:
                return False
        card.unlink(missing_ok=True)
        self._copy.fetch(self.folder)
        return True

    def keep(self) -> None:
        """Keep what was made for all who share the place; what makes it whole goes there last."""
        if self._lease is not None:
            files = TeacherFolder(self.folder)
            self._lease.check()
            self._copy.publish(files.weights, files.probe)
            self._copy.publish(files.card)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lease is not None:
            self._lease.release()
        if self._handle is not None:
            os.close(self._handle)

    def _lock(self) -> bool:
        if self._handle is None:
            self._handle = os.open(self.folder / "lease", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        remove_stale_drafts(self.folder)
        return True
