"""The only place that reads a clock; everything else gets its time passed in."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def wall(self) -> float:
        """Return seconds since the epoch; comparable between processes."""

    def monotonic(self) -> float:
        """Return seconds that never jump; comparable within this process only."""


class SystemClock:
    """The machine's clock."""

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return time.time()  # noqa: TID251

    def monotonic(self) -> float:
        """Return seconds since some fixed point."""
        return time.monotonic()


def iso(seconds: float) -> str:
    """Return seconds since the epoch as Kubernetes writes times: UTC, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_micro(seconds: float) -> str:
    """Return seconds since the epoch as a Kubernetes MicroTime."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
