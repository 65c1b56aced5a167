"""Conch: a Kubernetes operator for model services on Triton."""

__version__ = "0.1.0"
