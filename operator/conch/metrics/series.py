"""One sample of a Prometheus answer, and answers to one question about several moments."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MOST = 1e12
"""No rate, count or time in us of a service comes near."""
SKEW = 5.0
"""Seconds that a sample may seem to come from the future, by clocks that differ."""


@dataclass(frozen=True, slots=True)
class Series:
    """One element of an instant vector: its labels, its value and when it was evaluated (epoch)."""

    labels: Mapping[str, str]
    value: float
    time: float


def sane(value: float) -> bool:
    """Tell whether a rate, count or time makes sense: no NaN, nothing negative, nothing absurd."""
    return math.isfinite(value) and 0 <= value <= MOST


def series_of(result: Iterable[Mapping[str, Any]]) -> list[Series]:
    """Return the series of the ``result`` of an instant query.

    Raises ValueError when an element is not one of an instant vector.
    """
    return [_series(element) for element in result]


def _series(element: Mapping[str, Any]) -> Series:
    try:
        time, value = element["value"]
        return Series(labels=dict(element["metric"]), value=float(value), time=float(time))
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an element of an instant vector: {element!r:.200}") from error


def moments_of(
    results: Mapping[str, Iterable[Mapping[str, Any]]],
) -> dict[float, dict[str, list[Series]]]:
    """Return by time, oldest first, what instant queries would have answered then, by their names.

    ``results`` are those of range queries over the same steps. Raises ValueError when an element is
    not one of a matrix.
    """
    moments: dict[float, dict[str, list[Series]]] = {}
    for query, result in results.items():
        for element in result:
            for series in _points(element):
                moments.setdefault(series.time, {}).setdefault(query, []).append(series)
    return dict(sorted(moments.items()))


def _points(element: Mapping[str, Any]) -> list[Series]:
    try:
        labels = dict(element["metric"])
        return [Series(labels, float(value), float(time)) for time, value in element["values"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an element of a matrix: {element!r:.200}") from error
