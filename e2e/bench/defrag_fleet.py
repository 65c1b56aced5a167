"""The fleet of the benchmark of migrations: the trace's nodes, and work that comes, waits and leaves."""

import random
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from conch.api.pool import GPUPoolSpec
from conch.decisions import placement
from conch.decisions.fleet import Amounts, Node, Pool, ServiceKey, Shape
from conch.decisions.migration import Replica
from conch.decisions.placement import Ledger
from conch.decisions.placement.fragmentation import States, popular
from e2e.bench.placement_trace import MILLI, Pod, cluster, durations, pods

GPU, POOL = "nvidia.com/gpu", "openb"
LOAD_S = 42.0
"""From creation to the first answer: what docs/scaling.md takes where it has not seen any."""
PATIENCE_S = 7200.0
"""What has no place for so long goes elsewhere."""
LEAST_S, MOST_S = 3600.0, 86400.0
"""Of the trace's pods with GPUs, those that ran for an hour or more tell how long work stays, at most
a day: a model service is no job of ten minutes, and the fleet has to come round."""
LARGE = 0.3
"""Share of GPUs that are asked for by pods with more than one. In the trace it is 6 %; its authors
have variants with 20 to 50 %, for fleets that train and serve large models."""
_MIB = 2.0**20


@dataclass(frozen=True, slots=True)
class Work:
    """A replica that somebody wants."""

    uid: str
    shape: Shape
    arrives: float
    lasts: float
    """Seconds, from when it has its place."""

    @property
    def gpus(self) -> int:
        """GPUs that it takes."""
        return self.shape.need.gpus


def nodes(every: int) -> tuple[Node, ...]:
    """Return every so many of the trace's nodes, empty."""
    there = cluster()
    rows = range(0, len(there.cpu), every)
    return tuple(
        Node(
            name=f"n{row:04}",
            labels={},
            ready=True,
            schedulable=True,
            taints=(),
            allocatable={
                GPU: float((there.devices[row] > 0).sum()),
                "cpu": there.cpu[row] / MILLI,
                "memory": there.memory[row] * _MIB,
                "pods": 110.0,
            },
            requested={},
            pods=0,
        )
        for row in rows
    )


def shape(pod: Pod) -> Shape:
    """Return what a replica asks: whole GPUs, as Kubernetes counts them."""
    return Shape(Amounts(pod.gpus, pod.cpu / MILLI, pod.memory * _MIB, 1), ())


def weights() -> dict[Pod, float]:
    """Return how often each of the trace's pods with GPUs is drawn, so that LARGE holds."""
    there = [p for p in pods() if p.gpus]
    small = sum(p.gpus for p in there if p.gpus == 1)
    large = sum(p.gpus for p in there if p.gpus > 1)
    more = LARGE / (1 - LARGE) * small / large
    found: dict[Pod, float] = {}
    for pod in sorted(there):
        found[pod] = found.get(pod, 0.0) + (more if pod.gpus > 1 else 1.0)
    return found


def arrivals(seed: int, *, gpus: float, load: float, seconds: float) -> list[Work]:
    """Return work as it comes: at random times, so that on the whole it asks for load x gpus."""
    draw, weighed = random.Random(seed), weights()
    kinds, shares = [shape(p) for p in weighed], list(accumulate(weighed.values()))
    lasts = [min(s, MOST_S) for s in durations() if s >= LEAST_S]
    mean = sum(p.gpus * w for p, w in weighed.items()) / shares[-1] * sum(lasts) / len(lasts)
    rate, now = load * gpus / mean, 0.0
    found: list[Work] = []
    while True:
        now += draw.expovariate(rate)
        if now > seconds:
            return found
        kind = kinds[bisect_left(shares, draw.random() * shares[-1])]
        found.append(Work(f"w{len(found):06}", kind, now, draw.choice(lasts)))


@dataclass
class Fleet:
    """What runs where, and what waits."""

    pool: Pool
    ledger: Ledger
    running: dict[str, Replica] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    waiting: list[Work] = field(default_factory=list)
    turned_away: int = 0
    """GPUs of work that waited for too long."""

    @property
    def capacity(self) -> int:
        """GPUs of all nodes."""
        return sum(round(n.allocatable[GPU]) for n in self.pool.nodes)

    @property
    def taken(self) -> int:
        """GPUs that work has."""
        return sum(r.shape.need.gpus for r in self.running.values())

    def fragmented(self) -> float:
        """Return the free GPUs that popular replicas can't use, by the measure of placement."""
        measure = self.ledger.measure(self.pool)
        assert measure is not None
        states = States.of(self.ledger.free(n, self.pool) for n in self.pool.nodes)
        return float(measure.of(states).sum())

    def leave(self, now: float) -> None:
        """Let go what has lasted long enough, and what waits no more."""
        for uid in [u for u, end in self.ends.items() if end <= now]:
            one = self.running.pop(uid)
            del self.ends[uid]
            self.ledger.release(one.node, one.shape.need, GPU)
        stay = [w for w in self.waiting if w.arrives + PATIENCE_S > now]
        self.turned_away += sum(w.gpus for w in self.waiting) - sum(w.gpus for w in stay)
        self.waiting = stay

    def admit(self, now: float) -> int:
        """Place what waits, the first to come first, and return how many GPUs got their work."""
        stay: list[Work] = []
        full: set[Amounts] = set()
        placed = 0
        for work in self.waiting:
            if work.shape.need in full or not self._start(work, now):
                full.add(work.shape.need)
                stay.append(work)
            else:
                placed += work.gpus
        self.waiting = stay
        return placed

    def _start(self, work: Work, now: float) -> bool:
        node = placement.choose(self.pool, work.shape, self.ledger)
        if node is None:
            return False
        self.ledger.book(node, work.shape.need, GPU)
        key = ServiceKey("openb", work.uid)
        self.running[work.uid] = Replica(
            key, work.uid, work.uid, POOL, node, work.shape, load_seconds=LOAD_S, since=now
        )
        self.ends[work.uid] = now + work.lasts
        return True

    def move(self, uid: str, node: str, now: float) -> None:
        """Note that a replica runs on another node, which is booked already, and free its old place."""
        one = self.running[uid]
        self.ledger.release(one.node, one.shape.need, GPU)
        self.running[uid] = replace(one, node=node, since=now)

    def hold(self, rooms: Iterable[tuple[str, Amounts]]) -> list[tuple[str, Amounts]]:
        """Keep what is free of some rooms from others; return what to give back."""
        kept, by_name = [], {n.name: n for n in self.pool.nodes}
        for name, need in rooms:
            free = self.ledger.free(by_name[name], self.pool)
            least = Amounts(
                min(free.gpus, need.gpus),
                max(0.0, min(free.cpu, need.cpu)),
                max(0.0, min(free.memory, need.memory)),
                min(free.pods, need.pods),
            )
            self.ledger.book(name, least, GPU)
            kept.append((name, least))
        return kept

    def give_back(self, kept: Iterable[tuple[str, Amounts]]) -> None:
        """Free rooms that were kept."""
        for name, amounts in kept:
            self.ledger.release(name, amounts, GPU)


def empty(every: int) -> Fleet:
    """Return the fleet with nothing on it."""
    spec = {"accelerator": POOL, "nodeSelector": {"pool": POOL}}
    pool = Pool(POOL, GPUPoolSpec.model_validate(spec), nodes(every))
    wanted = popular((shape(p).need, w) for p, w in weights().items())
    return Fleet(pool, Ledger(wanted))


def by_node(running: Sequence[Replica]) -> dict[str, list[Replica]]:
    """Return replicas by node."""
    found: dict[str, list[Replica]] = {}
    for one in running:
        found.setdefault(one.node, []).append(one)
    return found
