"""Manifests to apply, and the sample models that they serve."""
