"""The training core of CPSC-DFKD: knows torch, and nothing of Ray, Optuna, MLflow or the command line.

Importing the package costs nothing; the modules that need torch import it themselves.
"""

__version__ = "0.1.0"
