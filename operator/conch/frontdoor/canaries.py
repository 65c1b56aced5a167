"""What requests came to under a canary, by revision: for the operator, which judges it, and for dashboards."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from conch.decisions.canary import BOUNDS, Tally
from conch.decisions.fleet import ServiceKey
from conch.frontdoor.commands import server
from conch.frontdoor.drawn import GRPC_FAULTS
from conch.frontdoor.routes import Route
from conch.frontdoor.slots import Slots, State
from conch.frontdoor.traffic import Drawn, Request

Pair = tuple[str, str]
"""Canary and stable revision."""
_SERVERS = 500
"""From here on statuses speak of the server."""
LEFT, RETRIED = "left", "retried"
"""Instead of a class of codes: the caller left; the canary failed, and stable was asked."""


def entries(route: Route | None, slots: Slots) -> dict[str, dict[str, str]]:
    """Return a service's entry of the map of canaries, where a pod of its canary has a place."""
    if route is None or route.canary is None:
        return {}
    replicas = {r.uid: r for r in route.replicas if r.canary}
    places = [
        f"{server(index)}/{replicas[slot.uid].weight}"
        for index, slot in enumerate(slots)
        if slot.uid in replicas and slot.state is State.READY
    ]
    if not places:
        return {}
    canary = route.canary
    value = f"{canary.share}:{canary.revision}:{canary.stable}:{','.join(places)}"
    return {"canaries": {str(route.key): value}}


def retried(request: Request) -> bool:
    """Tell whether a canary was asked first and failed, so that another pod was asked."""
    drawn = request.drawn
    if drawn is None or drawn.place is None:
        return False
    return request.server == "stable" or drawn.answered not in (None, drawn.place)


def failed(request: Request) -> bool:
    """Tell whether the answer, or the lack of one, speaks against who was asked."""
    if request.grpc is not None:
        return request.grpc in GRPC_FAULTS
    return request.ended.startswith(("S", "s")) or request.status >= _SERVERS


def _left(request: Request) -> bool:
    return request.ended.startswith(("C", "c"))


def code_class(request: Request) -> str:
    """Return the class of a request's code; those of gRPC count as what they are over HTTP."""
    if _left(request):
        return LEFT
    if retried(request):
        return RETRIED
    if failed(request):
        return "5xx"
    if request.grpc is not None:
        return "2xx" if request.grpc == 0 else "4xx"
    return f"{request.status // 100}xx"


@dataclass(slots=True)
class _Counts:
    """Of one revision."""

    requests: int = 0
    failed: int = 0
    retried: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    @property
    def tally(self) -> Tally:
        return Tally(self.requests, self.failed, self.retried, tuple(self.buckets))


@dataclass(slots=True)
class _Case:
    """One service under one canary."""

    pair: Pair
    counts: dict[str, _Counts] = field(init=False)
    codes: dict[Pair, int] = field(default_factory=lambda: defaultdict(int))
    """By revision and class."""
    over: bool = False

    def __post_init__(self) -> None:
        self.counts = {revision: _Counts() for revision in self.pair}


class Canaries(Collector):
    """Counts by service and revision since a canary began; a Prometheus collector."""

    def __init__(self) -> None:
        self._cases: dict[str, _Case] = {}

    def keep(self, key: ServiceKey, route: Route | None) -> None:
        """Take over whether a service has a canary; metrics of one that ended stay until the next."""
        name = str(key)
        if route is None:
            self._cases.pop(name, None)
            return
        canary, case = route.canary, self._cases.get(name)
        if canary is None:
            if case is not None:
                case.over = True
            return
        pair = (canary.revision, canary.stable)
        if case is None or case.over or case.pair != pair:
            self._cases[name] = _Case(pair)

    def count(self, request: Request) -> None:
        """Count a request that went on under a canary."""
        drawn, case = request.drawn, self._cases.get(request.service)
        if drawn is None or case is None or case.over or case.pair != (drawn.canary, drawn.stable):
            return
        revision = _whose(request, drawn)
        if revision is None:
            return
        counts, code = case.counts[revision], code_class(request)
        case.codes[revision, code] += 1
        counts.requests += 1
        if code == RETRIED:
            counts.retried += 1
        elif code == "5xx":
            counts.failed += 1
        elif drawn.seconds is not None:
            # A caller that left waited for so long at least.
            counts.buckets[bucket(drawn.seconds)] += 1

    def tallies(self) -> Mapping[str, Mapping[str, Tally]]:
        """Return what was counted, by service (NAMESPACE/NAME) and revision, of canaries that are on."""
        return {
            name: {revision: counts.tally for revision, counts in case.counts.items()}
            for name, case in self._cases.items()
            if not case.over
        }

    def errors(self) -> tuple[tuple[str, str, int], ...]:
        """Return what changes with a revision's first error, and whenever they have doubled."""
        return tuple(
            (name, revision, t.errors.bit_length())
            for name, tallies in sorted(self.tallies().items())
            for revision, t in tallies.items()
        )

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        family = CounterMetricFamily(
            "conch_front_door_canary_requests",
            "Inferences of services under a canary, by the revision that was asked first.",
            labels=("service_namespace", "service", "revision", "code"),
        )
        for service, case in self._cases.items():
            namespace, _, name = service.partition("/")
            for (revision, code), count in case.codes.items():
                family.add_metric([namespace, name, revision, code], count)
        yield family


def _whose(request: Request, drawn: Drawn) -> str | None:
    """Return the revision that a request counts for; None where nobody of it was asked.

    What was not drawn and went to a canary all the same, as no other was there, compares nothing.
    """
    if drawn.place is not None:
        asked = request.server == "stable" or drawn.answered is not None or _left(request)
        return drawn.canary if asked else None
    asked = request.server.startswith("s") and request.server[1:].isdigit()
    return drawn.stable if asked and request.server not in drawn.places else None


def bucket(seconds: float) -> int:
    """Return which of BOUNDS, or what lies above them, a latency falls into."""
    return next((i for i, bound in enumerate(BOUNDS) if seconds <= bound), len(BOUNDS))
