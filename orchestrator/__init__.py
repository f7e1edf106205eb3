"""Experiment files in, the best student out, with Ray, Optuna and MLflow behind one door each."""

from typing import TYPE_CHECKING, Any

from cpsc_core import __version__

if TYPE_CHECKING:
    from orchestrator.opened import open_sweep

__all__ = ["__version__", "open_sweep"]


def __getattr__(name: str) -> Any:
    # The command line imports this package too, and its help must not wait for what opens a sweep.
    if name == "open_sweep":
        from orchestrator.opened import open_sweep

        return open_sweep
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
