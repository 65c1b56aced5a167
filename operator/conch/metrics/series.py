"""One sample of a Prometheus answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Series:
    """One element of an instant vector: its labels, its value and when it was evaluated (epoch)."""

    labels: Mapping[str, str]
    value: float
    time: float


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
