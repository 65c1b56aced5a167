"""What the front door counts of each service's requests, as Prometheus has it; asked where there is one.

Replicas count what they answer, and hardly what waits elsewhere. The front door counts a request when
it is over, so that requests that came are those that ended, and the change of those under way.
"""

import math
from collections.abc import Iterable, Mapping

from conch.api.signals import Arrivals
from conch.metrics.queries import LOOKBACK
from conch.metrics.series import MOST, SKEW, Series, sane

REFUSED = ("401", "404", "413", "429", "grpc-5", "grpc-8", "grpc-16")
"""Codes of requests that the front door refused itself: no replica has to serve them."""
_LABELS = "service_namespace, service, exported_service"
_LIVE = "and on (job, instance) (up == 1)"

ServiceName = tuple[str, str]
"""Namespace and name."""


def arrival_queries(lookback: float = LOOKBACK) -> Mapping[str, str]:
    """Return the queries by name, over all services at once; ``lookback`` (s) holds two scrapes."""
    within = f"[{round(lookback * 1000)}ms]"
    requests = f'conch_front_door_requests_total{{code!~"{"|".join(REFUSED)}"}}'
    # Each agent shows it, whether anybody asks or not.
    twice = f"count_over_time(conch_front_door_unknown_requests_total{within}) >= 2"
    return {
        "arrivals": f"sum by ({_LABELS}) (irate({requests}{within}) {_LIVE})",
        "arrivals_under_way": f"sum by ({_LABELS}) (conch_front_door_in_flight {_LIVE})",
        "arrivals_scraped": f"min by ({_LABELS}) (timestamp({requests}) {_LIVE})",
        "arrivals_doors": f"count(({twice}) {_LIVE})",
    }


def arrivals(answers: Mapping[str, Iterable[Series]]) -> Mapping[ServiceName, Arrivals]:
    """Return what came in, by (namespace, service); what makes no sense is left out.

    ``answers`` are by the names in ``arrival_queries()``, among others.
    """
    rates, under_way, scraped = (
        _by_service(answers.get(name, ()))
        for name in ("arrivals", "arrivals_under_way", "arrivals_scraped")
    )
    doors = round(sum(s.value for s in answers.get("arrivals_doors", ()) if sane(s.value)))
    found = {}
    for name, rate in rates.items():
        ended, held = sum(s.value for s in rate), sum(s.value for s in under_way.get(name, ()))
        age = max((s.time - s.value for s in scraped.get(name, ())), default=math.nan)
        if sane(ended) and sane(held) and -SKEW <= age <= MOST:
            found[name] = Arrivals(ended, held, doors, max(0.0, age))
    return found


def _by_service(series: Iterable[Series]) -> Mapping[ServiceName, list[Series]]:
    """Return the series of each service; several where scrapes label them differently."""
    found: dict[ServiceName, list[Series]] = {}
    for one in series:
        found.setdefault(_service(one), []).append(one)
    return found


def _service(series: Series) -> ServiceName:
    label = series.labels.get
    # A scrape that has a label of that name too renames the front door's.
    return label("service_namespace", ""), label("exported_service") or label("service", "")
