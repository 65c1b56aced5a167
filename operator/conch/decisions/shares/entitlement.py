"""How much each tenant is entitled to: weighted max-min over demand, over pools that not all can use.

Amounts are in GPUs of relative speed 1. A tenant's level is its amount over its weight. All levels
rise together from the guaranteed quotas, until a set of pools is full: whoever can go nowhere else
stays there, the others rise on. Which sets can be full at all is Hall's condition; that the result is
the only max-min fair one holds for any polymatroid (Megiddo, Optimal flows in networks with multiple
sources and sinks, 1974).
"""

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Amounts = npt.NDArray[np.float64]

FLOOR = 0.1
"""Of the weight, that usage never takes."""
MEMORY = 1.0
"""K: how much of the weight a use of the whole fleet takes."""
QUOTAS_AT_MOST = 0.9
"""Of a pool: beyond that, quotas leave nothing of the floor."""
_MOST_SETS = 256
_SMALL = 1e-9


@dataclass(frozen=True)
class Entrant:
    """A tenant: what it may count on, and what it wants by the pools that would do."""

    weight: float
    quota: float = 0.0
    demand: Mapping[frozenset[str], float] = field(default_factory=dict)


def weights_now(weights: Sequence[float], usage: Sequence[float], fleet: float) -> list[float]:
    """Return the weights with memory: max(0.1 w, w + K (w - u)), w and u as shares of one.

    ``usage`` and ``fleet`` in GPUs of relative speed 1. Who used more than its weight gets less for
    a while, who used less gets more.
    """
    total = sum(weights)
    if total <= 0:
        return [0.0 for _ in weights]
    found = []
    for weight, used in zip(weights, usage, strict=True):
        part = weight / total
        u = used / fleet if fleet > 0 else 0.0
        found.append(max(FLOOR * part, part + MEMORY * (part - u)))
    return found


def entitlements(entrants: Sequence[Entrant], capacity: Mapping[str, float]) -> list[float]:
    """Return what each entrant is entitled to, in GPUs of relative speed 1.

    ``capacity`` by pool; infinite where a pool grows by itself. Never more than the demand; the
    quota at least, as far as it is wanted and all quotas fit.
    """
    if not entrants:
        return []
    return [float(x) for x in _Filling(entrants, capacity).fill()]


class _Filling:
    """One run of the algorithm. Sets of pools are rows, tenants are columns."""

    def __init__(self, entrants: Sequence[Entrant], capacity: Mapping[str, float]) -> None:
        self._weights = np.array([max(e.weight, _SMALL) for e in entrants], dtype=float)
        reaches = sorted({r for e in entrants for r in e.demand}, key=sorted)
        demand = np.array([[e.demand.get(r, 0.0) for r in reaches] for e in entrants], dtype=float)
        self._total: Amounts = demand.sum(axis=1)
        self._quota: Amounts = np.minimum([e.quota for e in entrants], self._total)
        sets = _full_together(reaches, capacity)
        elsewhere = np.array([[not r <= pools for r in reaches] for pools in sets], dtype=float)
        self._there = np.array([sum(capacity.get(p, 0.0) for p in s) for s in sets], dtype=float)
        self._outside: Amounts = elsewhere.reshape(len(sets), len(reaches)) @ demand.T
        """How much of each tenant's demand may go to other pools than the set's."""
        self._cut_quotas()

    def _cut_quotas(self) -> None:
        """Cut quotas in proportion where they do not fit together."""
        for there, outside in zip(self._there, self._outside, strict=True):
            inside = np.maximum(0.0, self._quota - outside)
            if inside.sum() > there + _SMALL:
                self._quota = self._quota - inside * (1.0 - there / inside.sum())

    def fill(self) -> Amounts:
        """Return the amounts."""
        amounts, rising = self._total.copy(), np.ones(len(self._weights), dtype=bool)
        while rising.any():
            settled = np.maximum(0.0, amounts - self._outside)[:, ~rising].sum(axis=1)
            level, tight = self._level(np.maximum(0.0, self._there - settled), rising)
            if tight is None:
                break
            at = self._at(level)
            stays = self._stay(at - self._outside[tight], rising, tight)
            amounts[stays] = at[stays]
            rising &= ~stays
        return amounts

    def _stay(
        self, inside: Amounts, rising: npt.NDArray[np.bool_], tight: int
    ) -> npt.NDArray[np.bool_]:
        """Return who can go nowhere else, now that a set is full; somebody always, despite rounding.

        ``inside``: how much of each amount is in the set, negative where it has not come to it.
        """
        could = rising & (self._total > self._outside[tight])
        nearest = inside[could].max()
        stays: npt.NDArray[np.bool_] = could & (inside >= min(nearest, -_SMALL))
        return stays

    def _at(self, level: float) -> Amounts:
        at: Amounts = np.clip(self._weights * level, self._quota, self._total)
        return at

    def _level(self, left: Amounts, rising: npt.NDArray[np.bool_]) -> tuple[float, int | None]:
        """Return the level at which the first set of pools is full, and the set; None where none is.

        From above: while any set is over, the level falls to where the one most over is just full.
        """
        level, tight = float((self._total / self._weights).max(initial=0.0)), None
        for _ in range(len(left) + 1):
            asked = np.maximum(0.0, self._at(level) - self._outside)[:, rising].sum(axis=1)
            over = asked - left
            if not len(over) or over.max() <= _SMALL * max(1.0, left.max()):
                break
            tight = int(np.argmax(over))
            level = self._full_at(left[tight], tight, rising, level)
        return level, tight

    def _full_at(
        self, left: float, pools: int, rising: npt.NDArray[np.bool_], high: float
    ) -> float:
        """Return the highest level, up to ``high``, at which one set of pools is not over.

        What is asked is linear between the levels at which a tenant leaves its quota, comes into the
        set, or has all.
        """
        weights, quota, total = (x[rising] for x in (self._weights, self._quota, self._total))
        outside = self._outside[pools][rising]

        def asked(level: float) -> float:
            at = np.clip(weights * level, quota, total)
            return float(np.maximum(0.0, at - outside).sum())

        bends = np.concatenate([quota / weights, outside / weights, total / weights])
        levels: list[float] = [0.0, *np.unique(bends[bends < high]).tolist(), high]
        over = bisect.bisect_right(levels, left, key=asked)
        if over in (0, len(levels)):
            return levels[max(0, over - 1)]
        low, high = levels[over - 1], levels[over]
        below, above = asked(low), asked(high)
        return low + (high - low) * (left - below) / (above - below)


def _full_together(
    reaches: Sequence[frozenset[str]], capacity: Mapping[str, float]
) -> list[frozenset[str]]:
    """Return the sets of pools that can be full together: unions of what tenants can reach."""
    bounded = [r for r in reaches if r and all(capacity.get(p, 0.0) != np.inf for p in r)]
    found: dict[frozenset[str], None] = {}
    for reach in bounded:
        for known in [*found, frozenset[str]()]:
            if len(found) < _MOST_SETS:
                found.setdefault(known | reach)
    everything = frozenset[str]().union(*bounded)
    return [*found, *([everything] if everything and everything not in found else [])]
