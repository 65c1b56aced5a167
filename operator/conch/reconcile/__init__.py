"""Gather, decide, apply: one tick of the loop."""
