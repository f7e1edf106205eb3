"""Every error the training core raises on purpose.

CoreError              a person can act on the message
  SettingsError        a setting that cannot work; names the setting and what is allowed
  UnknownNameError     a name that is in no table; lists the table
  DataError            a data set that is missing, unreadable or not what the settings say
  TeacherError         teacher weights that are missing, unreadable or of another shape
  AttemptError         an attempt that somebody else has begun; says which numbers are taken
  ExportError          a student that cannot be written for others, or that answers differently there
  CheckpointError      a checkpoint whose content does not match its manifest
  RankError            a process that cannot go on because of another one of its trial
  DivergedError        a loss or weight stopped being finite; names the term and the epoch
"""

from __future__ import annotations


class CoreError(Exception):
    """A person can act on the message; anything else is a bug with a trace."""


class SettingsError(CoreError):
    """A setting that cannot work; the message names it and says what is allowed."""


class UnknownNameError(CoreError):
    """A name that is in no table; the message lists the table."""


class DataError(CoreError):
    """A data set that is missing, unreadable or not what the settings say."""


class TeacherError(CoreError):
    """Teacher weights that are missing, unreadable or of another shape."""


class AttemptError(CoreError):
    """An attempt that somebody else has begun; the message says which numbers are taken."""


class ExportError(CoreError):
    """A student that cannot be written as a file that others run, or that answers differently there."""


class CheckpointError(CoreError):
    """A checkpoint whose content does not match its manifest."""


class RankError(CoreError):
    """A process that cannot go on because of another one of its trial."""


class DivergedError(CoreError):
    """A loss or a weight stopped being finite."""

    def __init__(self, term: str, epoch: int) -> None:
        super().__init__(
            f"{term} stopped being finite in epoch {epoch}; lower a learning rate or a loss weight"
        )
        self.term = term
        self.epoch = epoch

    def __reduce__(self) -> tuple[type[DivergedError], tuple[str, int]]:
        """What makes it again in another process."""
        return type(self), (self.term, self.epoch)
