"""Every error the orchestrator raises on purpose, and the exit code it ends a command with.

OrchestratorError (2)     a person can fix this by reading the message
  ConfigError (2)         the experiment file is wrong; nothing has started, nothing is written
  UsageError (2)          the command cannot do what was asked; says what to do instead
  UnreachableError (3)    the cluster or the storage cannot be reached
  TrackingError (3)       the tracking server answers, but refuses what it was sent
  BudgetError (4)         the budget was spent before anything finished
  OwnedError (5)          another controller owns the sweep
  FencedError (5)         this controller has lost the sweep to another one
    SilencedError (5)     it could not say for so long that it lives that it may have
  SignalledError (130)    a signal ended the command before it was done; 143 but for SIGINT
"""


class OrchestratorError(Exception):
    """A person can fix this by reading the message; anything else is a bug with a trace."""

    exit_code: int = 2


class ConfigError(OrchestratorError):
    """The experiment file is wrong; the message names file, line, what is allowed and the nearest name."""

    def __init__(self, message: str, mistakes: int = 1) -> None:
        """`mistakes` may be more than the message has lines: of very many only the first are told."""
        super().__init__(message)
        self.mistakes = mistakes


class UsageError(OrchestratorError):
    """The command cannot do what was asked; the message says what to do instead."""


class UnreachableError(OrchestratorError):
    """The cluster or the storage cannot be reached."""

    exit_code = 3


class TrackingError(OrchestratorError):
    """The tracking server answers, but refuses what it was sent; the message says what and why."""

    exit_code = 3


class BudgetError(OrchestratorError):
    """The budget was spent before anything finished."""

    exit_code = 4


class OwnedError(OrchestratorError):
    """Another controller owns the sweep; the message names it."""

    exit_code = 5


class FencedError(OrchestratorError):
    """Another controller has taken the sweep over; nothing more may be written."""

    exit_code = 5


class SilencedError(FencedError):
    """This controller could not say for so long that it lives that another one may have taken over."""


class SignalledError(OrchestratorError):
    """A signal ended the command before it was done."""

    def __init__(self, message: str, exit_code: int | None) -> None:
        """`exit_code` is that of the signal; None: of SIGINT."""
        super().__init__(message)
        self.exit_code = exit_code or 130
