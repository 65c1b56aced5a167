"""When Python looks for garbage: between ticks, and seldom at what lives long.

A look at all that a large fleet's store and memories hold takes as long as a decision, and finds next
to nothing: what they drop is freed at once.
"""

import contextlib
import gc
import math
from collections.abc import Iterator

FULL_S = 600.0
"""Seconds between two looks at everything."""
_NEVER = 10**9


def settle() -> None:
    """Leave what is loaded out of all looks, and looks at everything to ``Collector``."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, _NEVER)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Look for no garbage in the body; what it left is looked at soon after."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


class Collector:
    """Looks at everything now and then, when it is called between ticks."""

    def __init__(self, every: float = FULL_S) -> None:
        """``every``: seconds."""
        self._every = every
        self._last = -math.inf

    def look(self, now: float) -> bool:
        """Look at everything where it is due ``now`` (monotonic seconds); tell whether it was."""
        if self._last == -math.inf:
            self._last = now
        if now - self._last < self._every:
            return False
        self._last = now
        gc.collect()
        return True
