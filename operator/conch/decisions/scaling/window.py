"""The way down follows the highest wish within a window.

As HPA's downscale stabilization (k8s.io/kubernetes/pkg/controller/podautoscaler) does, and more
careful in one way: until a whole window was watched without a longer blind time, nothing goes
down. So after a restart replicas stay for one window, as what was wished before is not known.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """Wishes within the window, falling; since when it is watched; when it was last."""

    wishes: tuple[tuple[float, int], ...] = ()
    opened: float | None = None
    seen: float | None = None


def wished(window: Window, now: float, wish: int, *, length: float) -> Window:
    """Return the window (of ``length`` seconds) after one more wish at ``now``."""
    # A wish that is followed by a higher one can't be the highest again.
    kept = tuple([w for w in window.wishes if w[1] > wish and 0 <= now - w[0] <= length])
    return Window(wishes=(*kept, (now, wish)), opened=window.opened, seen=window.seen)


def watched(window: Window, now: float, *, gap: float) -> Window:
    """Return the window after complete data at ``now``.

    After more than ``gap`` seconds without, or when the clock went back, it opens anew.
    """
    blind = window.seen is None or not 0 <= now - window.seen <= gap
    return Window(wishes=window.wishes, opened=now if blind else window.opened, seen=now)


def full(window: Window, now: float, length: float) -> bool:
    """Return whether a whole window was watched, so that less than what is held may be judged."""
    return window.opened is not None and now - window.opened >= length


def highest(window: Window, now: float, length: float) -> int:
    """Return the highest wish within the window, 0 when there is none."""
    return max((wish for time, wish in window.wishes if now - time <= length), default=0)
