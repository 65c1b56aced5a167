"""Fixtures that all tests may use."""

from tests.kit.control_plane import cluster, namespace

__all__ = ["cluster", "namespace"]
