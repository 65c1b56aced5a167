"""Recording rules: what a tick asks, by service, and what dashboards show; and alerts.

The chart holds them as Prometheus' ``rule_files`` take them, written by ``make docs``; tests
compare the two.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from conch.metrics import tenants
from conch.metrics.arrivals import arrival_queries
from conch.metrics.queries import GROUP, queries

OF_TICK = "conch-tick"
OF_FRONT_DOOR = "conch-front-door"
OF_SERVICES = "conch-services"
OF_TENANTS = "conch-tenants"
_HEAD = "# Generated from operator/conch/metrics by `make docs`; do not edit.\n"
_SERVICE = "namespace, conch_dev_service"
_UNITS = {
    "compute_input_us": "compute_input_us:irate",
    "compute_us": "compute_us:irate",
    "compute_output_us": "compute_output_us:irate",
    "queue_us": "queue_us:irate",
    "pending": "pending",
    "pods": "pods",
    "p99_us": "p99_us",
    "scraped": "scraped_newest",
    "scraped_first": "scraped_oldest",
    "arrivals_under_way": "arrivals_under_way",
    "arrivals_scraped": "arrivals_scraped_oldest",
    "arrivals_doors": "arrivals_doors",
}
"""Names of those that are not plain rates."""


def recorded(query: str) -> str:
    """Return the name of the series that a tick's query is recorded as."""
    return f"conch:{_UNITS.get(query, f'{query}:irate')}"


def rule_file() -> dict[str, Any]:
    """Return the rules as a rule file holds them."""
    return {
        "groups": [
            {"name": OF_TICK, "rules": _as_asked(queries())},
            {"name": OF_FRONT_DOOR, "rules": _as_asked(arrival_queries())},
            {
                "name": OF_SERVICES,
                "rules": [{"record": name, "expr": expr} for name, expr in _services().items()],
            },
        ]
    }


def _as_asked(asked: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"record": recorded(q), "expr": expr} for q, expr in asked.items()]


def _services() -> Mapping[str, str]:
    """Return what dashboards show of each service, over all its revisions, pools and models.

    Ratios are those of sums, never means of ratios.
    """

    def total(query: str) -> str:
        return f"sum by ({_SERVICE}) ({recorded(query)})"

    compute = " + ".join(total(q) for q in ("compute_input_us", "compute_us", "compute_output_us"))
    asked = f"({total('requests')} > 0)"
    return {
        "conch_service:items:irate": total("inferences"),
        "conch_service:requests:irate": total("requests"),
        "conch_service:failures:irate": total("failures"),
        "conch_service:pending": total("pending"),
        "conch_service:pods": total("pods"),
        "conch_service:queue_seconds:mean": f"{total('queue_us')} / {asked} / 1e6",
        "conch_service:run_seconds:mean": f"({compute}) / {asked} / 1e6",
        "conch_service:batch_items:mean": (f"{total('inferences')} / ({total('executions')} > 0)"),
        # Quantiles of pods can't be averaged: the worst one counts.
        "conch_service:p99_seconds:max": f"max by ({_SERVICE}) ({recorded('p99_us')}) / 1e6",
    }


def alert_file() -> dict[str, Any]:
    """Return the alerts as a rule file holds them."""
    return {"groups": [{"name": OF_TENANTS, "rules": tenants.alerts()}]}


def text() -> str:
    """Return the file of recording rules."""
    what = f"# conch:* are by {', '.join(GROUP)};\n# conch_service:* by {_SERVICE}.\n"
    what += "# conch:arrivals* are the front door's, by service_namespace, service.\n"
    return _HEAD + what + _as_yaml(rule_file())


def alert_text() -> str:
    """Return the file of alerts."""
    return _HEAD + _as_yaml(alert_file())


def _as_yaml(rules: dict[str, Any]) -> str:
    made: str = yaml.safe_dump(rules, sort_keys=False, width=1000)
    return made
