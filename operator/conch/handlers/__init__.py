"""kopf's decorators; each body is one call."""
