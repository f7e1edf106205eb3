"""Data-free distillation: a generator, losses and a trainer that cannot reach an image of any data set."""
