"""The PromQL of a tick: a fixed number of queries, whatever the fleet's size."""

from collections.abc import Mapping

LOOKBACK = 120.0
"""Seconds in which a pod must have been scraped twice."""


def queries(lookback: float = LOOKBACK) -> Mapping[str, str]:
    """Return the queries of a tick by name. ``lookback`` (s) must hold two scrapes of each pod."""
    raise NotImplementedError
