"""Networks that distillation can use as teacher or student."""
