"""What a way to the pod adds and takes: the front door, nginx, a bare Service, and none.

In turns within one run, so that what else the machine does hits all alike; each way's differences
are those to the direct way of the same round.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from e2e.bench.front_door import nginx
from e2e.bench.front_door.door import Door
from e2e.bench.front_door.flow import Flow, Outcomes, Protocol, quantile, together
from e2e.bench.front_door.load import sent
from e2e.bench.front_door.models import FAST, fast
from e2e.scratch import Scratch

Figures = dict[str, Any]
PROTOCOLS: tuple[Protocol, ...] = ("http", "grpc")
DIRECT, BARE, NGINX, DOOR = "direct", "bare_service", "nginx", "front_door"
CALLERS = 16
"""Requests under way at a time where the most is wanted."""
WARM_S = 0.5
"""At the start of each round, which don't count."""


@dataclass(frozen=True)
class Pace:
    """How long is measured."""

    rounds: int = 8
    seconds: float = 4.0
    """Of each way in each round, at half the load that the pod takes."""
    full_rounds: int = 5
    full_seconds: float = 3.0
    """Of each way in each round, with as much load as is answered."""


QUICK = Pace(rounds=3, seconds=2.0, full_rounds=2, full_seconds=1.5)
Ways = dict[str, dict[Protocol, Flow]]


def ways(place: Scratch, door: Door) -> Ways:
    """Return the ways to the one pod of the service, by protocol."""
    (pod,) = place.pods(FAST, ready=True)
    direct, bare = pod["status"]["podIP"], place.address(FAST)
    proxy = nginx.start(place, FAST)
    return {
        DIRECT: {p: Flow(DIRECT, p, f"{direct}:{_port(p)}", FAST) for p in PROTOCOLS},
        BARE: {p: Flow(BARE, p, f"{bare}:{_port(p)}", FAST) for p in PROTOCOLS},
        NGINX: {p: nginx.flow(NGINX, proxy, FAST, p) for p in PROTOCOLS},
        DOOR: {p: door.flow(DOOR, place.namespace, FAST, p) for p in PROTOCOLS},
    }


def _port(protocol: Protocol) -> int:
    return 8000 if protocol == "http" else 8001


@dataclass
class Measured:
    """Of one protocol, by way: rates with as much load as is answered, outcomes with half of it."""

    full: dict[str, list[float]] = field(default_factory=dict)
    half: dict[str, list[Outcomes]] = field(default_factory=dict)
    half_rps: float = 0.0

    @property
    def direct_rps(self) -> float:
        """What the pod answers directly."""
        return median(self.full[DIRECT])

    def figures(self, way: str) -> Figures:
        """Return a way's figures, beside those of the direct one in the same rounds."""
        rounds = zip(self.half[way], self.half[DIRECT], strict=True)
        added = [_p50(mine) - _p50(direct) for mine, direct in rounds]
        ratios = [m / d for m, d in zip(self.full[way], self.full[DIRECT], strict=True)]
        return {
            "added_ms_p50": round(median(added) * 1e3, 3),
            "added_ms_p50_by_round": [round(a * 1e3, 3) for a in added],
            "throughput_ratio": round(median(ratios), 3),
            "throughput_ratio_by_round": [round(r, 3) for r in ratios],
            "full_rps": [round(r) for r in self.full[way]],
            "half_load": together(way, self.half[way]).summary(),
        }


def _p50(outcomes: Outcomes) -> float:
    return quantile(outcomes.latencies(_warm(outcomes)), 0.5)


def _warm(outcomes: Outcomes) -> float:
    return outcomes.began[0] + WARM_S


def measure(
    place: Scratch, door: Door, pace: Pace, progress: Callable[[str, float], None]
) -> tuple[Figures, dict[str, list[Outcomes]]]:
    """Return the figures, and by way the outcomes over HTTP with half the load, for the picture.

    ``progress`` hears what is done, and which share of all.
    """
    fast(place, replicas=1)
    found = ways(place, door)
    measured = {p: Measured() for p in PROTOCOLS}
    total = len(PROTOCOLS) * (pace.rounds + pace.full_rounds)
    done = 0
    for protocol, into in measured.items():
        flows = {way: by[protocol] for way, by in found.items()}
        for round_ in range(pace.full_rounds):
            progress(f"{protocol}: as much as is answered", done / total)
            _full(flows, into, pace.full_seconds, round_)
            done += 1
        into.half_rps = into.direct_rps / 2
        for round_ in range(pace.rounds):
            progress(f"{protocol}: half of it, {into.half_rps:.0f}/s", done / total)
            _half(flows, into, pace.seconds, round_)
            done += 1
    return figures_of(measured), measured["http"].half


def figures_of(measured: dict[Protocol, Measured]) -> Figures:
    """Return all figures; where one stands for both protocols, it is the worse."""
    figures: Figures = {
        "direct_rps": round(measured["http"].direct_rps, 1),
        "direct": {
            p: {"rps": round(m.direct_rps, 1), **m.figures(DIRECT)} for p, m in measured.items()
        },
    }
    for way in (DOOR, NGINX, BARE):
        by = {p: m.figures(way) for p, m in measured.items()}
        figures[way] = {
            "added_ms_p50": max(f["added_ms_p50"] for f in by.values()),
            "throughput_ratio": min(f["throughput_ratio"] for f in by.values()),
            **by,
        }
    mine = figures[DOOR]
    return {k: mine[k] for k in ("added_ms_p50", "throughput_ratio")} | figures


def _full(flows: dict[str, Flow], into: Measured, seconds: float, seed: int) -> None:
    for way, flow in _in_turn(flows, seed):
        greedy = replace(
            flow, rate=None, seconds=seconds + WARM_S, callers=CALLERS, connections=_many(flow)
        )
        (outcomes,) = sent(greedy)
        _must_be_right(outcomes)
        since = _warm(outcomes)
        into.full.setdefault(way, []).append(outcomes.rate(since, since + seconds))


def _many(flow: Flow) -> int:
    return CALLERS if flow.protocol == "http" else 4


def _half(flows: dict[str, Flow], into: Measured, seconds: float, seed: int) -> None:
    for way, flow in _in_turn(flows, seed):
        steady = replace(
            flow,
            rate=into.half_rps,
            seconds=seconds + WARM_S,
            connections=_many(flow),
            seed=seed,
        )
        (outcomes,) = sent(steady)
        _must_be_right(outcomes)
        into.half.setdefault(way, []).append(outcomes)


def _in_turn(flows: dict[str, Flow], seed: int) -> Sequence[tuple[str, Flow]]:
    """Return the ways in another order each round."""
    found = [*flows.items()]
    random.Random(seed).shuffle(found)
    return found


def _must_be_right(outcomes: Outcomes) -> None:
    if outcomes.wrong:
        raise RuntimeError(f"{outcomes.name}: {outcomes.summary()}")
