"""Fixtures that all tests may use."""

from hypothesis import settings

from tests.kit.chart import helm
from tests.kit.connections import proxy, through
from tests.kit.control_plane import cluster, namespace
from tests.kit.report import pytest_terminal_summary
from tests.kit.sweep import simulated_lane

__all__ = [
    "cluster",
    "helm",
    "namespace",
    "proxy",
    "pytest_terminal_summary",
    "simulated_lane",
    "through",
]

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("conch", deadline=None)
settings.load_profile("conch")
