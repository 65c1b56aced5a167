"""What the operator had learned of the services' loads, as Prometheus has it from its own metrics.

The names are those that the operator shows (reconcile/exposition.py). A label that the scrape sets
too, such as the namespace of the operator's pod, takes the place of the service's, which is then
called ``exported_...``, unless the scrape has honor_labels.
"""

from collections.abc import Iterable, Iterator, Mapping

from conch.metrics.series import Series

LEARNED: Mapping[str, str] = {
    "beta": "conch_service_beta",
    "surprise": "conch_service_surprise_ratio",
    "dispersion": "conch_service_dispersion",
    "peak": "conch_service_peak_items_per_second",
    "watched": "conch_service_watched_seconds",
}
"""Metrics by the names of the figures that they show."""

LOAD = "conch_service_load_items_per_second"
"""Metric of the load that came in."""

_LABELS = ("namespace", "service")
_BY = ", ".join((*_LABELS, *(f"exported_{label}" for label in _LABELS)))


def learned_queries(within: float) -> Mapping[str, str]:
    """Return the query for each figure: its last value of ``within`` (s), by service.

    Asked at steps of as many seconds, each sample is in one answer. Where several operators showed
    the figure meanwhile, the highest counts.
    """
    span = f"[{round(within * 1000)}ms]"
    return {
        name: f"max by ({_BY}) (last_over_time({metric}{span}))" for name, metric in LEARNED.items()
    }


def learned(
    past: Mapping[float, Mapping[str, Iterable[Series]]],
) -> Mapping[tuple[str, str], Mapping[str, float]]:
    """Return the last value of each figure, by (namespace, service).

    ``past`` has the answers to ``learned_queries`` by time, oldest first.
    """
    found: dict[tuple[str, str], dict[str, float]] = {}
    for answers in past.values():
        for key, figures in _at(answers).items():
            found.setdefault(key, {}).update(figures)
    return found


def peak_queries(step: float) -> Mapping[str, str]:
    """Return the query for the highest load in each ``step`` (s) before a moment, by service."""
    span = f"[{round(step * 1000)}ms]"
    return {"load": f"max by ({_BY}) (max_over_time({LOAD}{span}))"}


def peaks(
    past: Mapping[float, Mapping[str, Iterable[Series]]], *, last: float, step: float
) -> Iterator[tuple[tuple[str, str], int, float]]:
    """Yield (namespace, service), how many steps before ``last`` (epoch, s), and the load (items/s).

    ``past`` has the answers to ``peak_queries`` by time.
    """
    for at, answers in past.items():
        steps = round((last - at) / step)
        for key, figures in _at(answers).items():
            yield key, steps, figures["load"]


def _at(answers: Mapping[str, Iterable[Series]]) -> Mapping[tuple[str, str], Mapping[str, float]]:
    """Return the figures that one moment has."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for name, series in answers.items():
        for one in series:
            namespace, service = (_own(one.labels, label) for label in _LABELS)
            figures = found.setdefault((namespace, service), {})
            figures[name] = max(one.value, figures.get(name, one.value))
    return found


def _own(labels: Mapping[str, str], label: str) -> str:
    """Return what the operator said, not what the scrape added."""
    return labels.get(f"exported_{label}") or labels.get(label, "")
