"""How many items a second a service is asked for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """Arrivals between two scrapes of all pods."""

    time: float
    """When the newest of them was scraped."""
    rate: float
    """Items a second."""
    backlog: float
    """Items that wait."""
    pressed: bool
    """A second signal says that the replicas are too few: queue time, or what waits."""
    level: float
    """``rate`` without what only this sample says."""
