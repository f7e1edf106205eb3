"""From an experiment file to a validated, frozen SweepConfig: the door is strict, the rooms are calm."""

from orchestrator.config.difference import MAY_CHANGE, changes, difference
from orchestrator.config.experiment import Experiment, load_experiment, parse_experiment
from orchestrator.config.schema import SweepConfig
from orchestrator.config.search import Choices, ParamSpec, Range, resolve

__all__ = [
    "Choices",
    "Experiment",
    "MAY_CHANGE",
    "ParamSpec",
    "Range",
    "SweepConfig",
    "changes",
    "difference",
    "load_experiment",
    "parse_experiment",
    "resolve",
]
