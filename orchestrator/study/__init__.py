"""The only door to Optuna: what to try next and who is ended early, as views of the trial folders."""
