"""Fixtures that all tests may use."""

from tests.kit.control_plane import cluster, namespace
from tests.kit.sweep import simulated_lane

__all__ = ["cluster", "namespace", "simulated_lane"]
