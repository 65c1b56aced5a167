"""The kinds of conch.dev/v1alpha1 as pydantic models, their names, conditions and CRDs."""
