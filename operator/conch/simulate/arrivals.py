"""When requests come: recorded one by one, counted, or drawn from what is known of a window.

All times are seconds from the recording's start. Each source draws the requests between two of
its times, each of them kept by chance; the same generator gives the same requests.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_AT_ONCE = 4_000_000
"""Gaps drawn at a time: bounds the memory to some 100 MB."""
_SETTLING = 10.0
"""Squared variations after which a stream of gaps has forgotten that it began with a request."""


class Source(Protocol):
    """A recording."""

    def expected(self, start: float, end: float) -> float:
        """Return the mean number of requests between two times."""

    def draw(self, random: Generator, start: float, end: float, keep: float) -> Floats:
        """Return the times of requests, rising; each of the recording's is kept by chance."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Every request by its time."""

    times: Floats

    def expected(self, start: float, end: float) -> float:
        """Return the number of requests between two times."""
        first, last = np.searchsorted(self.times, (start, end))
        return float(last - first)

    def draw(self, random: Generator, start: float, end: float, keep: float) -> Floats:
        """Return the requests between two times, each kept by chance."""
        first, last = np.searchsorted(self.times, (start, end))
        times = self.times[first:last]
        return times if keep >= 1.0 else times[random.random(len(times)) < keep]


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests counted in windows: within one, a Poisson process of that many."""

    starts: Floats
    ends: Floats
    counts: Integers

    def multiplied(self, factor: float) -> "Rates":
        """Return the rates of a load so many times as large: Poisson within the windows."""
        rates = factor * self.counts / (self.ends - self.starts)
        return Rates(self.starts, self.ends, rates, np.full(len(rates), np.nan))

    def expected(self, start: float, end: float) -> float:
        """Return the number of requests between two times."""
        return _overlap(self.starts, self.ends, self.counts.astype(float), start, end)

    def draw(self, random: Generator, start: float, end: float, keep: float) -> Floats:
        """Return requests between two times."""
        among = (self.ends > start) & (self.starts < end)
        counts = self.counts[among]
        kept = counts if keep >= 1.0 else random.binomial(counts, keep)
        times = _uniform(random, self.starts[among], self.ends[among], kept)
        return _between(times, start, end)


@dataclass(frozen=True, slots=True)
class Rates:
    """Mean rates in windows, with the coefficient of variation of the gaps between requests.

    Without one (NaN) requests are Poisson. With one, gaps are Gamma distributed in operational
    time (the expected number of requests so far), which a stream keeps from window to window: the
    inversion method for renewal processes of a changing rate, Gerhardt and Nelson 2009.
    """

    starts: Floats
    ends: Floats
    rates: Floats
    """Requests a second."""
    variations: Floats

    def multiplied(self, factor: float) -> "Rates":
        """Return the rates of a load so many times as large, as uneven as this one."""
        return replace(self, rates=factor * self.rates)

    def expected(self, start: float, end: float) -> float:
        """Return the mean number of requests between two times."""
        amounts = self.rates * (self.ends - self.starts)
        return _overlap(self.starts, self.ends, amounts, start, end)

    def draw(self, random: Generator, start: float, end: float, keep: float) -> Floats:
        """Return requests between two times."""
        among = (self.ends > start) & (self.starts < end)
        starts, ends, rates = self.starts[among], self.ends[among], self.rates[among]
        variations = np.where(np.isnan(self.variations[among]), 1.0, self.variations[among])
        edges = np.flatnonzero(np.diff(variations)) + 1
        parts = [np.empty(0)]
        for run in np.split(np.arange(len(starts)), edges):
            if len(run):
                amounts = rates[run] * (ends[run] - starts[run])
                variation = float(variations[run[0]])
                parts.append(
                    _varied(random, starts[run], ends[run], amounts, variation=variation, keep=keep)
                )
        return _between(np.sort(np.concatenate(parts)), start, end)


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients, each by windows with its count of requests and the distribution of its gaps.

    The count is what was recorded, so gaps are drawn from the distribution's shape and scaled to
    fill the window: their mean is then 1 / rate, whatever scale was fitted.
    """

    starts: Floats
    ends: Floats
    counts: Integers
    shapes: Floats
    """Of the Gamma or the Weibull distribution."""
    weibull: NDArray[np.bool_]

    def expected(self, start: float, end: float) -> float:
        """Return the number of requests between two times."""
        return _overlap(self.starts, self.ends, self.counts.astype(float), start, end)

    def draw(self, random: Generator, start: float, end: float, keep: float) -> Floats:
        """Return the requests of all clients between two times."""
        among = (self.ends > start) & (self.starts < end) & (self.counts > 0)
        parts = [np.empty(0)]
        for chosen in (among & ~self.weibull, among & self.weibull):
            heavy = bool(chosen.any()) and bool(self.weibull[chosen][0])
            parts.extend(
                _spread(
                    random,
                    self.starts[part],
                    self.ends[part],
                    self.counts[part],
                    self.shapes[part],
                    weibull=heavy,
                    keep=keep,
                )
                for part in _portions(np.flatnonzero(chosen), self.counts)
            )
        return _between(np.sort(np.concatenate(parts)), start, end)


def _overlap(starts: Floats, ends: Floats, amounts: Floats, start: float, end: float) -> float:
    """Return the sum of amounts, those of cut windows in proportion."""
    inside = np.minimum(ends, end) - np.maximum(starts, start)
    return float(np.sum(amounts * np.clip(inside, 0.0, None) / (ends - starts)))


def _between(times: Floats, start: float, end: float) -> Floats:
    first, last = np.searchsorted(times, (start, end))
    return times[first:last]


def _uniform(random: Generator, starts: Floats, ends: Floats, counts: Integers) -> Floats:
    """Return so many times in each window, all rising."""
    lengths = np.repeat(ends - starts, counts)
    return np.sort(np.repeat(starts, counts) + lengths * random.random(len(lengths)))


def _varied(
    random: Generator,
    starts: Floats,
    ends: Floats,
    amounts: Floats,
    *,
    variation: float,
    keep: float,
) -> Floats:
    """Return requests of windows of one variation, given the mean number in each."""
    if variation == 1.0:
        return _uniform(random, starts, ends, random.poisson(amounts * keep))
    reached = np.concatenate(([0.0], np.cumsum(amounts)))
    total = float(reached[-1])
    if total <= 0.0:
        return np.empty(0)
    moments = _renewals(random, total, variation, keep)
    window = np.minimum(np.searchsorted(reached, moments, side="right") - 1, len(starts) - 1)
    share = (moments - reached[window]) / amounts[window]
    return starts[window] + share * (ends - starts)[window]


def _renewals(random: Generator, total: float, variation: float, keep: float) -> Floats:
    """Return a stationary stream of unit rate from 0 to ``total``, each kept by chance.

    The gap over k requests of Gamma gaps is Gamma distributed too, so those that are not kept need
    no drawing.
    """
    shape = 1.0 / max(variation, 1e-3) ** 2
    begin = _SETTLING * (1.0 + variation**2)
    moments = np.empty(0)
    reached = -begin
    while reached < total:
        more = int(keep * ((total - reached) * 1.05 + begin)) + 64
        skipped = np.ones(more) if keep >= 1.0 else random.geometric(keep, more).astype(float)
        steps = reached + np.cumsum(random.standard_gamma(shape * skipped) / shape)
        moments = np.concatenate((moments, steps))
        reached = float(steps[-1])
    return _between(moments, 0.0, total)


def _portions(windows: Integers, counts: Integers) -> Iterator[Integers]:
    """Yield windows in portions whose requests fit into memory."""
    bins = np.cumsum(counts[windows]) // _AT_ONCE
    for part in np.split(windows, np.flatnonzero(np.diff(bins)) + 1):
        if len(part):
            yield part


def _spread(
    random: Generator,
    starts: Floats,
    ends: Floats,
    counts: Integers,
    shapes: Floats,
    *,
    weibull: bool,
    keep: float,
) -> Floats:
    """Return the kept requests of windows, window by window.

    A window of n requests has n + 1 gaps, drawn and then scaled to fill it.
    """
    before = np.concatenate(([0], np.cumsum(counts)))
    kept = _chosen(random, int(before[-1]), keep)
    window = np.searchsorted(before, kept, side="right") - 1
    rank = kept - before[window]
    if weibull:
        reached, whole = _weibull_sums(random, counts, shapes, window, rank)
    else:
        reached, whole = _gamma_sums(random, counts, shapes, window, rank)
    with np.errstate(invalid="ignore"):
        share = np.where(whole > 0.0, reached / whole, (rank + 1) / (counts[window] + 1))
    return starts[window] + share * (ends - starts)[window]


def _chosen(random: Generator, size: int, keep: float) -> Integers:
    """Return which of so many requests are kept, each with the same chance."""
    if keep >= 1.0:
        return np.arange(size)
    kept = np.empty(0, dtype=np.int64)
    last = -1
    while last < size:
        more = int((size - last) * keep * 1.05) + 64
        kept = np.concatenate((kept, last + np.cumsum(random.geometric(keep, more))))
        last = int(kept[-1])
    return kept[: int(np.searchsorted(kept, size))]


def _gamma_sums(
    random: Generator, counts: Integers, shapes: Floats, window: Integers, rank: Integers
) -> tuple[Floats, Floats]:
    """Return the sums of gaps up to each kept request, and over its window.

    The sum of k gaps is drawn at once: it is Gamma distributed with k times the shape.
    """
    if not len(window):
        return np.empty(0), np.empty(0)
    first = np.concatenate(([True], np.diff(window) > 0))
    gaps = np.where(first, rank + 1, np.concatenate(([0], np.diff(rank))))
    steps = random.standard_gamma(shapes[window] * gaps) / shapes[window]
    sums = np.cumsum(steps)
    starts = np.flatnonzero(first)
    lasts = np.concatenate((starts[1:], [len(window)])) - 1
    sizes = lasts - starts + 1
    reached = sums - np.repeat(sums[starts] - steps[starts], sizes)
    shape = shapes[window[lasts]]
    tail = random.standard_gamma(shape * (counts[window[lasts]] - rank[lasts])) / shape
    return reached, np.repeat(reached[lasts] + tail, sizes)


def _weibull_sums(
    random: Generator, counts: Integers, shapes: Floats, window: Integers, rank: Integers
) -> tuple[Floats, Floats]:
    """Return the sums of gaps up to each kept request, and over its window; all are drawn."""
    firsts = np.concatenate(([0], np.cumsum(counts + 1)))
    steps = random.weibull(np.repeat(shapes, counts + 1))
    sums = np.concatenate(([0.0], np.cumsum(steps)))
    base = sums[firsts[window]]
    return sums[firsts[window] + rank + 1] - base, sums[firsts[window + 1]] - base
