"""The teacher stage on the cluster: load and verify a teacher, or train it once and keep it."""

from __future__ import annotations

__all__ = ["TeacherWish", "prepare_teacher"]

_SLICE_SECONDS = 0.25
