"""The only door to Optuna: what to try next and who is ended early, as views of the trial folders."""

from orchestrator.study.search import Suggestion
from orchestrator.study.study import Study

__all__ = ["Study", "Suggestion"]
