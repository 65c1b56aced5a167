"""The front door's agent: HAProxy's configuration, its metrics, and the pages for callers."""
