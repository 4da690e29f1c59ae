"""Harm done on purpose to real processes, and the proof that nothing was lost by it."""
