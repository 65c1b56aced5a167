"""Kubernetes, Prometheus and Triton behind small interfaces, a fake beside each."""
