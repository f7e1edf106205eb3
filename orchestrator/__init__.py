"""Experiment files in, the best student out, with Ray, Optuna and MLflow behind one door each."""

from cpsc_core import __version__

__all__ = ["__version__"]
