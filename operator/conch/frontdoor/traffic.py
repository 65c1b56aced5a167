"""What HAProxy's log tells of requests, counted for Prometheus and for the judge of replicas.

HAProxy's own exporter knows no tenants and no quantiles, and writes tens of megabytes a scrape where
there are thousands of services; here only what was asked has series.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from conch.frontdoor.public import ANONYMOUS

BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds in seconds."""
OTHER = "other"
"""Label of tenants that nobody knows, as signed tokens may name them."""
WAIT = "W "
_REQUEST = "R "
_NONE = "-"
"""What HAProxy writes for what is not there."""
_FIELDS = 13
"""Of a request's line after the service and the tenant; see conch.frontdoor.public.LOG."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a request under a canary met."""

    canary: str
    stable: str
    """Revisions."""
    places: frozenset[str]
    """Of the canary, in HAProxy's names."""
    place: str | None
    """The one that was drawn; None where the request was stable's."""
    answered: str | None
    """The place that answered a request that was drawn."""
    seconds: float | None
    """Since the request went on, with its body; None for a stream."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request that is over."""

    service: str
    """namespace/name, as it was asked for; whether there is one is not known."""
    tenant: str
    status: int
    """Of HTTP; 0 where the caller left before there was one."""
    grpc: int | None
    """gRPC's, where it came with the head: that of errors does."""
    protocol: str
    backend: str
    server: str
    ended: str
    """How it ended, in HAProxy's two letters (configuration.txt, 8.5); ``--`` is in order."""
    queued: float
    """Seconds that it waited in a queue."""
    seconds: float
    """All of it, with what it was held."""
    drawn: Drawn | None = None
    """Where the service had a canary when it came."""

    @property
    def code(self) -> str:
        """What callers saw, as a label."""
        return f"grpc-{self.grpc}" if self.grpc is not None else str(self.status)


def request_of(line: str) -> Request | None:
    """Return the request that a line of the log tells of; None where it is of something else."""
    if not line.startswith(_REQUEST):
        return None
    words = line[len(_REQUEST) :].rsplit(" ", _FIELDS - 1)
    head = words[0].rsplit(" ", 1)
    if len(words) != _FIELDS or len(head) != 2:
        return None
    status, grpc, protocol, backend, server, ended, queued, micros = words[1:9]
    try:
        return Request(
            service=head[0],
            tenant=head[1],
            status=max(0, int(status)),
            grpc=int(grpc) if grpc.isdigit() else None,
            protocol=protocol,
            backend=backend,
            server=server,
            ended=ended,
            queued=max(0, int(queued)) / 1e3,
            seconds=max(0, int(micros)) / 1e6,
            drawn=_drawn(*words[9:]),
        )
    except ValueError:
        return None


def _drawn(told: str, place: str, answered: str, micros: str) -> Drawn | None:
    """Return what the end of a line tells; ``told`` is the entry of the map of canaries."""
    parts = told.split(":")
    if len(parts) != 4:
        return None
    return Drawn(
        canary=parts[1],
        stable=parts[2],
        places=frozenset(p.partition("/")[0] for p in parts[3].split(",")),
        place=None if place == _NONE else place,
        answered=None if answered == _NONE else answered,
        seconds=None if micros == _NONE else max(0, int(micros)) / 1e6,
    )


@dataclass(slots=True)
class _Times:
    """Latencies of one service and tenant."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0


class Traffic:
    """Counts requests; a Prometheus collector. Used on one event loop, scraped there too."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str, str, str], int] = defaultdict(int)
        self._times: dict[tuple[str, str], _Times] = defaultdict(_Times)
        self._queued: dict[str, list[float]] = {}
        self.unknown = 0
        """Requests for services that there are not."""

    def count(self, request: Request, *, known: bool, tenant_known: bool) -> None:
        """Count a request; of services that there are not, only their number."""
        if not known:
            self.unknown += 1
            return
        fine = tenant_known or request.tenant == ANONYMOUS
        tenant = request.tenant if fine else OTHER
        self._codes[request.service, tenant, request.protocol, request.code] += 1
        times = self._times[request.service, tenant]
        times.buckets[_bucket(request.seconds)] += 1
        times.total += request.seconds
        queue = self._queued.setdefault(request.service, [0.0, 0.0])
        queue[0] += request.queued
        queue[1] += 1

    def forget(self, service: str) -> None:
        """Drop the series of a service that is gone."""
        self._codes = defaultdict(int, {k: n for k, n in self._codes.items() if k[0] != service})
        self._times = defaultdict(_Times, {k: t for k, t in self._times.items() if k[0] != service})
        self._queued.pop(service, None)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        requests = CounterMetricFamily(
            "conch_front_door_requests",
            "Requests by what their callers were answered.",
            labels=("service_namespace", "service", "tenant", "protocol", "code"),
        )
        for (service, tenant, protocol, code), count in self._codes.items():
            requests.add_metric([*_named(service), tenant, protocol, code], count)
        yield requests
        yield self._latencies()
        for index, (name, text) in enumerate(_QUEUE):
            family = CounterMetricFamily(name, text, labels=("service_namespace", "service"))
            for service, queue in self._queued.items():
                family.add_metric(_named(service), queue[index])
            yield family
        yield CounterMetricFamily(
            "conch_front_door_unknown_requests",
            "Requests for services that there are not.",
            value=self.unknown,
        )

    def _latencies(self) -> Metric:
        family = HistogramMetricFamily(
            "conch_front_door_seconds",
            "Seconds of a request, from its head to the end of its answer, with all waiting.",
            labels=("service_namespace", "service", "tenant"),
        )
        for (service, tenant), times in self._times.items():
            running, buckets = 0, []
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), times.buckets, strict=True):
                running += count
                buckets.append((bound, running))
            family.add_metric([*_named(service), tenant], buckets, times.total)
        return family


_QUEUE = (
    (
        "conch_front_door_queue_seconds_sum",
        "Seconds that requests waited in the front door's queues.",
    ),
    ("conch_front_door_queue_seconds_count", "Requests that the sum is of."),
)


def _bucket(seconds: float) -> int:
    return next((i for i, bound in enumerate(BUCKETS) if seconds <= bound), len(BUCKETS))


def _named(service: str) -> list[str]:
    namespace, _, name = service.partition("/")
    return [namespace, name]
