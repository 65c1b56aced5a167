"""Traces of requests: a recording or a forecast, read from CSV, thinned and cut.

Kinds of files, told apart by the names in their first line:

- ``timestamp``: one row a request (other columns are passed over, as those of Azure's traces);
- ``timestamp,value`` (or ``count``, ``requests``): requests counted from then on;
- ``start_s,rate_rps``, with ``end_s`` and ``cv`` where known: rates in windows;
- ``client,window_start_s,rate_rps,cv,dist,param1,param2``: ServeGen's clients.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from conch.simulate.arrivals import Clients, Counts, Floats, Rates, Requests, Source
from conch.simulate.table import Table, TraceError, read_table

__all__ = ["Trace", "TraceError", "read_trace"]

MOST = 200_000_000
"""Requests of one run: more would not fit into the memory of a laptop."""
_COUNTS = ("value", "count", "requests")
_SERVEGEN = frozenset({"window_start_s", "rate_rps", "dist", "param1"})
_WANTED = frozenset({"timestamp", *_COUNTS, "start_s", "end_s", "cv", "client", *_SERVEGEN})
_KINDS = (
    "a trace has a column timestamp (one row a request), timestamp,value (counts), "
    "start_s,rate_rps[,end_s][,cv] (windows), or the columns of ServeGen"
)
_QUIET = 100.0
"""Mean gaps between requests from which on a silence is worth a word."""


@dataclass(frozen=True)
class Trace:
    """A stretch of a recording. Times are seconds from its start."""

    name: str
    source: Source
    span: float
    """Seconds from start to end."""
    missing: tuple[tuple[float, float], ...] = ()
    """Stretches of the recording without data, in its own time."""
    origin: float | None = None
    """Seconds since 1970 of the recording's start, where known."""
    offset: float = 0.0
    """Where this stretch begins in the recording, in seconds."""
    keep: float = 1.0
    """Share of the recording's requests that are kept, each by chance."""
    notes: tuple[str, ...] = ()
    """What people should know of the file."""

    @property
    def gaps(self) -> tuple[tuple[float, float], ...]:
        """Stretches without data: nothing is known of them, least of all that nobody asked."""
        clipped = (
            (max(0.0, start - self.offset), min(self.span, end - self.offset))
            for start, end in self.missing
        )
        return tuple((start, end) for start, end in clipped if start < end)

    @property
    def known(self) -> float:
        """Seconds with data."""
        return self.span - sum(end - start for start, end in self.gaps)

    @property
    def mean_rps(self) -> float:
        """Requests a second, over the time with data."""
        found = self.source.expected(self.offset, self.offset + self.span) * self.keep
        return found / self.known if self.known > 0 else 0.0

    def arrivals(self, seed: int) -> Floats:
        """Return the times of requests, rising; the same for the same seed. Raises TraceError."""
        expected = self.mean_rps * self.known
        if expected > MOST:
            raise TraceError(
                f"{self.name} has {expected:.3g} requests, more than {MOST:.0e}: thin it, or take "
                "a part of it"
            )
        random = np.random.default_rng(seed)
        times = self.source.draw(random, self.offset, self.offset + self.span, self.keep)
        return times - self.offset

    def thinned(self, mean_rps: float) -> "Trace":
        """Return the trace with that mean rate, its shape kept; as it is if it has no more."""
        mean = self.mean_rps
        return self if mean <= mean_rps else replace(self, keep=self.keep * mean_rps / mean)

    def scaled(self, mean_rps: float) -> "Trace":
        """Return the trace with that mean rate: thinned, or its counts or rates multiplied.

        Requests that were recorded one by one stay as they are where there are fewer.
        """
        mean = self.mean_rps
        if mean_rps <= mean or mean <= 0:
            return self.thinned(mean_rps)
        if not isinstance(self.source, Counts | Rates):
            return self
        return replace(self, source=self.source.multiplied(mean_rps / mean))

    def cut(self, start: float, end: float) -> "Trace":
        """Return the stretch between two times of this one. Raises TraceError if it has no data."""
        start, end = max(0.0, start), min(self.span, end)
        part = replace(self, offset=self.offset + start, span=max(0.0, end - start))
        if part.known <= 0.0:
            raise TraceError(
                f"{self.name} has no data from {start:g} s to {end:g} s; it lasts {self.span:g} s"
            )
        return part


def read_trace(path: Path | str) -> Trace:
    """Return the trace in a CSV file, plain or .gz. Raises TraceError, a message for people."""
    table = read_table(Path(path), _WANTED)
    names = set(table.header)
    if names >= _SERVEGEN:
        return _clients(table)
    if {"start_s", "rate_rps"} <= names:
        return _rates(table)
    if "timestamp" in names:
        counted = names & set(_COUNTS)
        return _counts(table, counted.pop()) if counted and len(names) == 2 else _requests(table)
    raise TraceError(f"{path}, line 1: {_unknown(table)}; {_KINDS}")


def _unknown(table: Table) -> str:
    for name in table.header:
        if name.startswith(("timestamp_", "start_", "rate_")):
            return f"column {name!r} is in another unit: times are in seconds, rates per second"
    if all(_is_number(name) for name in table.header):
        return "the first line must name the columns"
    return f"no known column among {', '.join(map(repr, table.header[:8]))}"


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "").replace(":", "").replace(" ", "").isdigit()


def _requests(table: Table) -> Trace:
    times, since_1970 = table.times("timestamp")
    table.rising("timestamp", times)
    span = float(times[-1] - times[0])
    if span <= 0.0:
        raise TraceError(f"{table.path}: all requests have one timestamp; a trace needs a stretch")
    return Trace(
        name=table.path.name,
        source=Requests(times - times[0]),
        span=float(np.nextafter(span, np.inf)),
        origin=float(times[0]) if since_1970 else None,
        notes=tuple(_silences(table, times)),
    )


def _silences(table: Table, times: Floats) -> Iterator[str]:
    """Yield a note on what looks like milliseconds, or like a recorder that was off."""
    name, steps = table.path.name, np.diff(times)
    row = int(np.argmax(steps))
    mean = float(times[-1] - times[0]) / len(times)
    if len(times) >= 100 and mean > 30.0 and not np.any(times % 1.0):
        yield (
            f"{name} has a request every {mean:.0f} s; if its timestamps are milliseconds, divide "
            "them by 1000"
        )
    elif len(times) >= 1000 and steps[row] >= max(60.0, _QUIET * mean):
        yield (
            f"{name} is silent for {steps[row]:.0f} s before line {table.line(row + 1)}; that "
            "counts as no load. If the recorder was off, leave the stretch out with --start and "
            "--end, or write windows (start_s,end_s,rate_rps) without it"
        )


def _counts(table: Table, name: str) -> Trace:
    times, since_1970 = table.times("timestamp")
    counts = table.numbers(name)
    table.check(counts >= 0, name, "must not be below zero")
    table.check(counts == np.round(counts), name, "must be a whole number of requests")
    starts, ends = _windows(table, "timestamp", times)
    source = Counts(starts, ends, counts.astype(np.int64))
    return _windowed(table, source, starts, ends, float(times[0]) if since_1970 else None)


def _rates(table: Table) -> Trace:
    times, since_1970 = table.times("start_s")
    rates = table.numbers("rate_rps")
    table.check(rates >= 0, "rate_rps", "must not be below zero")
    variations = np.full(len(times), np.nan)
    if "cv" in table.columns:
        variations = np.array([float(t) if t.strip() else np.nan for t in _cells(table, "cv")])
        table.check(~(variations < 0) & ~np.isinf(variations), "cv", "must be zero or more")
    starts, ends = _windows(table, "start_s", times)
    source = Rates(starts, ends, rates, variations)
    return _windowed(table, source, starts, ends, float(times[0]) if since_1970 else None)


def _cells(table: Table, name: str) -> list[str]:
    """Return the texts of a column where each is a number or empty. Raises TraceError."""
    for row, text in enumerate(table.columns[name]):
        try:
            float(text or 0)
        except ValueError:
            raise table.error(row, f"{name} is {text!r}, no number") from None
    return table.columns[name]


def _windows(table: Table, name: str, times: Floats) -> tuple[Floats, Floats]:
    """Return starts and ends of windows, from the first start on. Raises TraceError."""
    table.rising(name, times, strictly=True)
    starts = times - times[0]
    if "end_s" in table.columns:
        ends = table.times("end_s")[0] - times[0]
        table.check(ends > starts, "end_s", f"must be after {name}")
        late = np.concatenate((ends[:-1] > starts[1:], [False]))
        table.check(~late, "end_s", "must not be after the next window's start")
        return starts, ends
    if len(times) < 2:
        raise TraceError(
            f"{table.path} has one window and no end_s: nobody knows how long it lasts"
        )
    length = _usual(np.diff(starts))
    if length is None:
        return starts, np.append(starts[1:], 2 * starts[-1] - starts[-2])
    return starts, np.minimum(starts + length, np.append(starts[1:], np.inf))


def _usual(steps: Floats) -> float | None:
    """Return the length of most windows; None where none is usual."""
    lengths, times = np.unique(np.round(steps, 6), return_counts=True)
    most = int(np.argmax(times))
    return float(lengths[most]) if 2 * times[most] > len(steps) else None


def _windowed(
    table: Table, source: Source, starts: Floats, ends: Floats, origin: float | None
) -> Trace:
    holes = np.flatnonzero(starts[1:] - ends[:-1] > 1e-6)
    notes: tuple[str, ...] = ()
    if len(holes):
        first = int(holes[0])
        notes = (
            _missing(table, len(holes), float(ends[first]), float(starts[first + 1]))
            + f", before line {table.line(first + 1)}",
        )
    return Trace(
        name=table.path.name,
        source=source,
        span=float(ends[-1]),
        missing=tuple((float(ends[i]), float(starts[i + 1])) for i in holes),
        origin=origin,
        notes=notes,
    )


def _missing(table: Table, number: int, start: float, end: float) -> str:
    return (
        f"{table.path.name} has {number} {'hole' if number == 1 else 'holes'}, which are missing "
        f"data, not zero load, and not judged; the first from {start:g} s to {end:g} s"
    )


def _clients(table: Table) -> Trace:
    times, _ = table.times("window_start_s")
    rates, shapes = table.numbers("rate_rps"), table.numbers("param1")
    table.check(rates >= 0, "rate_rps", "must not be below zero")
    table.check(shapes > 0, "param1", "is the shape of the distribution and must be above zero")
    kinds = np.array([text.strip().lower() for text in table.columns["dist"]])
    table.check(np.isin(kinds, ("gamma", "weibull")), "dist", "must be Gamma or Weibull")
    _check_clients(table, times)
    windows = np.unique(times)
    if len(windows) < 2:
        raise TraceError(f"{table.path} has one window: nobody knows how long it lasts")
    steps = np.diff(windows)
    length = _usual(steps) or float(steps.min())
    starts = times - windows[0]
    holes = np.flatnonzero(steps > length * 1.001)
    missing = tuple(
        (float(windows[i] + length - windows[0]), float(windows[i + 1] - windows[0])) for i in holes
    )
    counts = np.round(rates * length).astype(np.int64)
    return Trace(
        name=table.path.name,
        source=Clients(starts, starts + length, counts, shapes, kinds == "weibull"),
        span=float(windows[-1] - windows[0] + length),
        missing=missing,
        notes=(_missing(table, len(missing), *missing[0]),) if missing else (),
    )


def _check_clients(table: Table, times: Floats) -> None:
    """Raise TraceError where a client's windows fall back or come twice."""
    last: dict[str, float] = {}
    names = table.columns.get("client") or [""] * len(table)
    for row, (client, time) in enumerate(zip(names, times.tolist(), strict=True)):
        before = last.get(client)
        if before is not None and time <= before:
            what = "comes twice" if time == before else "is before that of an earlier row"
            raise table.error(
                row,
                f"window_start_s {time:g} of client {client} {what}: sort each client's windows "
                "by their start, one row a window",
            )
        last[client] = time
