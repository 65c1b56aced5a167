"""The way down follows the highest wish within a window."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """Wishes within the window, falling; since when it is watched; when it was last."""

    wishes: tuple[tuple[float, int], ...] = ()
    opened: float | None = None
    seen: float | None = None
