"""Recording rules: what a tick asks, by service, and what dashboards show.

The chart holds them as Prometheus' ``rule_files`` take them, written by ``make docs``; a test
compares the two.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from conch.metrics.queries import GROUP, queries

OF_TICK = "conch-tick"
OF_SERVICES = "conch-services"
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
}
"""Names of those that are not plain rates."""


def recorded(query: str) -> str:
    """Return the name of the series that a tick's query is recorded as."""
    return f"conch:{_UNITS.get(query, f'{query}:irate')}"


def rule_file() -> dict[str, Any]:
    """Return the rules as a rule file holds them."""
    return {
        "groups": [
            {
                "name": OF_TICK,
                "rules": [{"record": recorded(q), "expr": expr} for q, expr in queries().items()],
            },
            {
                "name": OF_SERVICES,
                "rules": [{"record": name, "expr": expr} for name, expr in _services().items()],
            },
        ]
    }


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


def text() -> str:
    """Return the rule file."""
    head = (
        "# Generated from operator/conch/metrics by `make docs`; do not edit.\n"
        f"# conch:* are by {', '.join(GROUP)};\n# conch_service:* by {_SERVICE}.\n"
    )
    rules: str = yaml.safe_dump(rule_file(), sort_keys=False, width=1000)
    return head + rules
