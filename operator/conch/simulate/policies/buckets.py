"""Averages over a window of one-second buckets, as Knative's autoscaler takes them.

After ``TimedFloat64Buckets`` and ``WeightedFloat64Buckets`` of knative.dev/serving v0.49.0,
pkg/autoscaler/aggregation: the same sums in the same order, since averages that differ in the last
digit differ in a replica once they are rounded up.
"""

import math

_DIGITS = 10.0**6
_LEAST_DECAY = 0.2
_REST = 0.0001
"""What the weights of a window's buckets may lack of one."""


class Buckets:
    """What was recorded in the last ``window`` seconds, a bucket a second; all times in seconds."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._buckets = [0.0] * window
        self._total = 0.0
        self._first = 0
        """The first second written to since the window was last without any."""
        self._last: int | None = None
        """The newest second written to."""

    def record(self, now: float, value: float) -> None:
        """Add ``value`` to the bucket of ``now``, which is never before the newest one."""
        second = math.floor(now)
        if self._last is None or second - self._last >= self._window:
            self._first = second
            self._buckets = [0.0] * self._window
            self._total = 0.0
        else:
            for skipped in range(self._last + 1, second + 1):
                self._total -= self._buckets[skipped % self._window]
                self._buckets[skipped % self._window] = 0.0
        self._last = second
        self._buckets[second % self._window] += value
        self._total += value

    def empty(self, now: float) -> bool:
        """Return whether the window up to ``now`` has no data at all."""
        return self._last is None or math.floor(now) - self._last > self._window

    def average(self, now: float) -> float:
        """Return the mean bucket; seconds without data are zero, except the first and the newest."""
        if self._last is None:
            return 0.0
        second = math.floor(now)
        silent = max(0, second - self._last)
        if silent >= self._window:
            return 0.0
        total = self._total
        for skipped in range(self._last + 1, second + 1):
            total -= self._buckets[skipped % self._window]
        valid = min(self._last - self._first + 1, self._window - silent)
        return _rounded(total / valid)


class WeightedBuckets(Buckets):
    """Buckets of which newer ones count for more, exponentially."""

    def __init__(self, window: int) -> None:
        super().__init__(window)
        self._decay = max(1.0 - math.pow(_REST, 1.0 / window), _LEAST_DECAY)

    def average(self, now: float) -> float:
        """Return the weighted sum of the buckets; 0 without data."""
        if self._last is None or self.empty(now):
            return 0.0
        silent = max(0, math.floor(now) - self._last)
        weight = self._decay * math.pow(1.0 - self._decay, silent)
        total = 0.0
        for age in range(self._window - silent):
            total += self._buckets[(self._last - age) % self._window] * weight
            weight *= 1.0 - self._decay
        return total


def _rounded(value: float) -> float:
    """Return ``value`` with six digits after the point, halves away from zero."""
    scaled = value * _DIGITS
    whole = math.trunc(scaled)
    if abs(scaled - whole) >= 0.5:
        whole += int(math.copysign(1.0, scaled))
    return whole / _DIGITS
