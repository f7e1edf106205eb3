"""A disk that loses power: what was not synced is gone, as POSIX allows and page caches hide from SIGKILL."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Literal

__all__ = ["LossyDisk", "Loss"]

Loss = Literal["names", "contents"]
"""What a loss of power takes: names that no fsync of their folder has secured, or contents that no fsync of
their file has secured although the name is there already."""


class LossyDisk:
    """Follows every fsync below a folder; install `fsync` in place of os.fsync."""

    def __init__(self, root: Path, *, strike_at: int | None = None, error: Exception | None = None) -> None:
        """Raise `error` instead of the `strike_at`-th fsync, and of all after it."""
        self.root = root
        self.syncs = 0
        self._strike_at = strike_at
        self._error = error
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._kept_open: list[int] = []

    def fsync(self, handle: int) -> None:
        """Secure a file's content, or a folder's names."""
        path = Path(f"/proc/self/fd/{handle}").resolve()
        if not path.is_relative_to(self.root):
            return
        self.syncs += 1
        if self._error is not None and self._strike_at is not None and self.syncs >= self._strike_at:
            raise self._error
        status = os.fstat(handle)
        # an inode that is open is not given to another file
        self._kept_open.append(os.open(path, os.O_RDONLY))
        if stat.S_ISDIR(status.st_mode):
            self._names[status.st_ino] = {entry.name: entry.stat().st_ino for entry in path.iterdir()}
        else:
            self._contents[status.st_ino] = path.read_bytes()

    def lose_power(self, loss: Loss) -> None:
        """Leave below the folder what a machine would find there when it is on again."""
        survived = self._survived(self.root, loss)
        for handle in self._kept_open:
            os.close(handle)
        self._kept_open.clear()
        shutil.rmtree(self.root)
        self.root.mkdir()
        for name, content in survived.items():
            path = self.root / name
            if content is None:
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def _survived(self, root: Path, loss: Loss) -> dict[str, bytes | None]:
        """Paths below the root; None for a folder."""
        folders = {path.stat().st_ino: path for path in [root, *root.rglob("*")] if path.is_dir()}
        found: dict[str, bytes | None] = {}

        def visit(inode: int, prefix: str) -> None:
            now = {entry.name: entry.stat().st_ino for entry in folders[inode].iterdir()}
            for name, child in (now if loss == "contents" else self._names.get(inode, {})).items():
                if child in folders:
                    found[prefix + name] = None
                    visit(child, f"{prefix}{name}/")
                else:
                    found[prefix + name] = self._contents.get(child, b"")

        visit(root.stat().st_ino, "")
        return found
