"""Prometheus: one method, bounded in time and number."""

from collections.abc import Mapping
from typing import Protocol

from conch.metrics.series import Series


class MetricsUnavailable(Exception):  # noqa: N818 - a state of the world, as users read it
    """Prometheus gave no answer; the message says why, for people."""


class MetricsSource(Protocol):
    """Where metrics come from."""

    async def query(self, queries: Mapping[str, str], at: float) -> Mapping[str, list[Series]]:
        """Return the answer to each PromQL query by its name, evaluated at ``at`` (epoch, s).

        All or nothing. Raises MetricsUnavailable.
        """
        ...
