"""Applies the decisions to the real world: what becomes of suggestions, attempts and results."""
