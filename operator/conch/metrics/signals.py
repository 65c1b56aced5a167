"""From Prometheus' answers to what is known of each service."""

from collections.abc import Mapping, Sequence

from conch.api.signals import Key, Signals
from conch.metrics.series import SKEW, Series, sane

__all__ = ["Entries", "Key", "Signals", "parse"]

_NEEDED = ("inferences", "requests", "executions", "pods", "scraped")
_NAMES = {
    "inferences": "items served",
    "requests": "requests answered",
    "failures": "requests failed",
    "executions": "runs",
    "compute_input_us": "time of copying inputs",
    "compute_us": "compute time",
    "compute_output_us": "time of copying outputs",
    "queue_us": "queue time",
    "pending": "pending requests",
    "pods": "pods",
    "p99_us": "p99 of requests",
    "scraped": "time of the newest sample",
    "scraped_first": "time of the oldest sample",
}

Answers = Mapping[str, Sequence[Series]]
Entries = Mapping[tuple[str, str], str]
"""Triton's name of the model that callers ask, by (namespace, service)."""
_Values = dict[str, Series]


def parse(answers: Answers, entry: Entries | None = None) -> Mapping[Key, Signals]:
    """Return the signals of each (namespace, service, revision, pool).

    ``answers`` are by the names in ``queries()``. ``entry`` gives Triton's name of the model that
    callers ask, by (namespace, service); a service that it lacks must report one model only.
    A key that is absent has no fresh data: no value is ever made up.
    """
    entries = entry or {}
    found: dict[Key, Signals] = {}
    for key, models in _grouped(answers).items():
        name = entries.get((key.namespace, key.service))
        if name is None and len(models) > 1:
            which = ", ".join(sorted(models))
            found[key] = Signals(absurd=f"models {which} report, and which one is asked is unknown")
            continue
        values = models.get(name) if name is not None else next(iter(models.values()))
        if values is not None and all(n in values for n in _NEEDED):
            found[key] = _signals(values)
    return found


def _grouped(answers: Answers) -> Mapping[Key, Mapping[str, _Values]]:
    """Return the series of each key by model and query."""
    groups: dict[Key, dict[str, _Values]] = {}
    for query, series in answers.items():
        for one in series:
            label = one.labels.get
            key = Key(
                label("namespace", ""),
                label("conch_dev_service", ""),
                label("conch_dev_revision", ""),
                label("conch_dev_pool", ""),
            )
            groups.setdefault(key, {}).setdefault(label("model", ""), {})[query] = one
    return groups


def _signals(values: _Values) -> Signals:
    for query, series in values.items():
        if not sane(series.value):
            return Signals(absurd=f"{_NAMES.get(query, query)}: {series.value:g}")
    age = _age(values, "scraped")
    if age < -SKEW:
        return Signals(absurd=f"a sample {-age:.0f} s from the future")
    return _sane(values, max(0.0, age), max(0.0, age, _age(values, "scraped_first")))


def _age(values: _Values, query: str) -> float:
    series = values.get(query)
    return series.time - series.value if series else 0.0


def _sane(values: _Values, age: float, age_oldest: float) -> Signals:
    def of(query: str) -> float:
        series = values.get(query)
        return series.value if series else 0.0

    requests, executions = of("requests"), of("executions")
    compute = of("compute_input_us") + of("compute_us") + of("compute_output_us")
    return Signals(
        inferences=of("inferences"),
        requests=requests,
        failures=of("failures"),
        executions=executions,
        mean_batch=_ratio(of("inferences"), executions),
        mean_execution=_ratio(compute, requests) / 1e6,
        queue_seconds=_ratio(of("queue_us"), requests) / 1e6,
        pending=of("pending"),
        pods_scraped=round(of("pods")),
        p99=of("p99_us") / 1e6 if "p99_us" in values else None,
        age=age,
        age_oldest=age_oldest,
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
