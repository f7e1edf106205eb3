"""Data-free distillation: networks, a generator and losses; no image of a data set can be reached from here."""
