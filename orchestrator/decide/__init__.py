"""What to do next, given what happened: (state, event) to (state, actions), and nothing else."""

from orchestrator.decide.actions import Action, AskStudy, Commit, Finish, PlanConfirm, RunTrial, Wait
from orchestrator.decide.decision import count_finished, decide
from orchestrator.decide.events import (
    Closed,
    Confirmed,
    Duplicated,
    Ended,
    Event,
    Reported,
    SlotFree,
    Suggested,
)
from orchestrator.decide.state import Rules, Standing, State

__all__ = [
    "Action",
    "AskStudy",
    "Closed",
    "Commit",
    "Confirmed",
    "Duplicated",
    "Ended",
    "Event",
    "Finish",
    "PlanConfirm",
    "Reported",
    "Rules",
    "RunTrial",
    "SlotFree",
    "Standing",
    "State",
    "Suggested",
    "Wait",
    "count_finished",
    "decide",
]
