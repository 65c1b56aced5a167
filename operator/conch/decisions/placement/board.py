"""The nodes that shapes of one kind may use, with what each placement would do to fragmentation.

Scores are kept by demand and brought up to date only for nodes whose books changed since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from conch.decisions.placement.fragmentation import (
    HAIR,
    Demand,
    Floats,
    Fragmentation,
    Ints,
    States,
)

WHOLE = -1
"""The option of taking devices that nothing is taken of; others are columns of States.parts."""
LEVEL = 0.04
"""GPUs: scores are rounded down to multiples of this, so that a fit that is a little better on paper
does not open another node. The authors' scheduler rounds as much, to a hundred points. With exact
scores a tenth more GPUs stay unallocated in the benchmark of placement."""
CORES_PER_GPU = 16.0
"""Cores that count as one GPU when the tightest fit is looked for among nodes of one level: as many
as the largest nodes of the benchmark's trace have for each. By GPUs alone it leaves some 2 % more of
them unallocated."""
_TIE = 1e-9
"""GPUs: what differs by less is equal, whatever the last bits of sums say."""


@dataclass
class _Scores:
    """Of one demand: the rise of fragmentation by row, infinite where it does not fit."""

    rise: Floats
    option: Ints
    """Of a row, the one with the least rise."""
    seen: int = 0
    """How much of the board's log these take into account."""


@dataclass(frozen=True)
class Spot:
    """A place for a replica: the row of its node, and which of its devices."""

    row: int
    option: int


@dataclass
class Board:
    """Nodes by name, one row each, and the scores of the demands that were asked for so far."""

    names: Sequence[str]
    """In ascending order: among equals the first by name is chosen."""
    states: States
    measure: Fragmentation | None
    """Without one every placement scores 0, and the tightest fit decides."""
    rows: Mapping[str, int] = field(init=False)
    _free: Floats = field(init=False)
    _before: Floats = field(init=False)
    _log: list[int] = field(default_factory=list, init=False)
    """Rows that changed, in the order of their changes."""
    _scores: dict[Demand, _Scores] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.rows = {name: row for row, name in enumerate(self.names)}
        self._free, self._before = self.states.free, self._measured(self.states)

    def put(self, rows: Sequence[int], states: States) -> None:
        """Replace what is free on some nodes."""
        index = np.array(rows, dtype=np.intp)
        self.states.put(index, states)
        self._free[index], self._before[index] = states.free, self._measured(states)
        self._log.extend(rows)

    def best(self, demand: Demand, dislike: Floats | None = None) -> Spot | None:
        """Return the place with the least rise plus ``dislike`` (GPUs, by row), or None.

        Among those of one level the tightest fit, with CPU counted as GPUs; without a measure the
        fewest GPUs free, then the least CPU. Then the first by name.
        """
        if not self.names:
            return None
        scores = self._up_to_date(demand)
        total = scores.rise if dislike is None else scores.rise + dislike
        least = total.min()
        if not np.isfinite(least):
            return None
        level = np.floor((least + _TIE) / LEVEL) * LEVEL
        rows = np.flatnonzero(total < level + LEVEL - _TIE)
        free, cpu = self._free[rows], self.states.cpu[rows]
        if self.measure is None:
            row = int(rows[np.lexsort((cpu, free))[0]])
        else:
            row = int(rows[(free + cpu / CORES_PER_GPU).argmin()])
        return Spot(row, int(scores.option[row]))

    def rises(self, demand: Demand) -> Floats:
        """Return by row what a replica there adds to fragmentation, in GPUs; infinite: no room."""
        return self._up_to_date(demand).rise

    def take(self, spot: Spot, demand: Demand) -> None:
        """Take a place."""
        self.put([spot.row], after(self.states.rows([spot.row]), demand, spot.option))

    def _measured(self, states: States) -> Floats:
        return np.zeros(len(states)) if self.measure is None else self.measure.of(states)

    def _up_to_date(self, demand: Demand) -> _Scores:
        scores = self._scores.get(demand)
        if scores is None:
            count = len(self.names)
            scores = _Scores(np.full(count, np.inf), np.full(count, WHOLE, dtype=np.intp))
            self._scores[demand] = scores
            self._score(demand, scores, np.arange(count))
        elif scores.seen < len(self._log):
            changed = sorted(set(self._log[scores.seen :]))
            self._score(demand, scores, np.array(changed, dtype=np.intp))
        scores.seen = len(self._log)
        return scores

    def _score(self, demand: Demand, scores: _Scores, rows: Ints) -> None:
        """Score some rows anew: the least over the devices that may be taken."""
        scores.rise[rows], scores.option[rows] = np.inf, WHOLE
        rows = rows[self.states.rows(rows).fit(demand)]
        options = self._options(demand, rows)
        taken = [after(self.states.rows(able), demand, option) for option, able in options]
        rises = self._measured(States.joined(taken))
        start = 0
        for option, able in options:
            rise = rises[start : start + len(able)] - self._before[able]
            start += len(able)
            better = rise < scores.rise[able] - _TIE
            scores.rise[able[better]], scores.option[able[better]] = rise[better], option

    def _options(self, demand: Demand, rows: Ints) -> list[tuple[int, Ints]]:
        """Return each option with the rows that have it; devices taken in part come first."""
        found = []
        if demand.share < 1:
            for column, parts in enumerate(self.states.parts[rows].T):
                found.append((column, rows[parts >= demand.share - HAIR]))
        return [*found, (WHOLE, rows[self.states.whole[rows] >= demand.devices])]


def after(states: States, demand: Demand, option: int) -> States:
    """Return what is free once each of these nodes has taken a replica."""
    whole, parts = states.whole, states.parts
    if option == WHOLE:
        whole = whole - demand.devices
        if demand.share < 1:
            parts = _opened(parts, 1 - demand.share)
    else:
        parts = parts.copy()
        left = parts[:, option] - demand.share
        parts[:, option] = np.where(left < HAIR, 0.0, left)
    cpu, memory = states.cpu - demand.cpu, states.memory - demand.memory
    return States(whole, parts, cpu, memory, states.pods - demand.pods)


def _opened(parts: Floats, left: float) -> Floats:
    """Return the parts with one more, in a column where nothing was."""
    parts = parts.copy()
    parts[np.arange(len(parts)), parts.argmin(axis=1)] = left
    return parts
