"""From an experiment file to a validated, frozen SweepConfig: the door is strict, the rooms are calm."""

from orchestrator.config.conditions import in_order, is_active
from orchestrator.config.containment import holds
from orchestrator.config.difference import MAY_CHANGE, changes, difference
from orchestrator.config.experiment import Experiment, load_experiment, parse_experiment
from orchestrator.config.objectives import Bound, Objective
from orchestrator.config.schema import SweepConfig
from orchestrator.config.search import Choices, ParamSpec, Range, apply, setting_at

__all__ = [
    "Bound",
    "Choices",
    "Experiment",
    "MAY_CHANGE",
    "Objective",
    "ParamSpec",
    "Range",
    "SweepConfig",
    "apply",
    "changes",
    "difference",
    "holds",
    "in_order",
    "is_active",
    "load_experiment",
    "parse_experiment",
    "setting_at",
]
