"""Small fleets for stories about moves: nodes with GPUs, replicas on them, and time that passes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from conch.decisions.fleet import Amounts, Node, Pool, ServiceKey, Shape, Sign
from conch.decisions.migration import (
    MovableFleet,
    MovableService,
    Move,
    MoveReason,
    OpenMove,
    Option,
    Plan,
    Replica,
    Waiting,
    propose,
)
from conch.decisions.placement import Ledger
from tests.unit.decisions.stories import node, pool

GPU = "nvidia.com/gpu"
NOW = 100_000.0
LOAD_S = 30.0
ZONE = "topology.kubernetes.io/zone"


def shape(gpus: int = 1, cpu: float = 1.0) -> Shape:
    """Return what a replica of so many GPUs asks."""
    return Shape(Amounts(gpus, cpu, 1e9, 1), ())


def nodes(prefix: str, *gpus: int, zones: Sequence[str] = ()) -> list[Node]:
    """Return nodes PREFIX1, PREFIX2 and so on with so many GPUs each."""
    return [
        node(f"{prefix}{n + 1}", gpus=count, labels={ZONE: zones[n]} if zones else {})
        for n, count in enumerate(gpus)
    ]


@dataclass
class World:
    """A fleet that carries out moves: the new replica answers a load time later, the old one leaves."""

    pools: Sequence[Pool]
    popular: Mapping[int, float] = field(default_factory=dict)
    """How popular replicas of so many GPUs are."""
    services: dict[ServiceKey, MovableService] = field(default_factory=dict)
    replicas: dict[str, Replica] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)
    open: dict[str, OpenMove] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    """Nodes that were left as they seemed to fail."""
    now: float = NOW
    history: list[tuple[float, Move, str]] = field(default_factory=list)
    """When each move began, and the UID of the new replica."""
    _ends: dict[str, float] = field(default_factory=dict)

    def service(self, name: str, *, gpus: int = 1, **fields: Any) -> ServiceKey:
        """Add a service that may use all pools, those of equal rank; return its key."""
        key = ServiceKey("t", name)
        options = fields.pop("options", None) or tuple(
            Option(p.name, shape(gpus), speed=p.device_speed, price=p.spec.price_per_gpu_hour)
            for p in self.pools
        )
        self.services[key] = MovableService(key, options, **fields)
        return key

    def run(self, name: str, *on: str, gpus: int = 1, **fields: Any) -> None:
        """Let a service run one replica on each of these nodes, made long ago."""
        key = ServiceKey("t", name)
        if key not in self.services:
            self.service(name, gpus=gpus)
        for where in on:
            pod = f"{name}-{len(self.replicas)}"
            self.replicas[f"u-{pod}"] = Replica(
                key,
                pod,
                f"u-{pod}",
                fields.get("pool") or self._pool_of(where),
                where,
                fields.get("shape") or shape(gpus),
                **{
                    "load_seconds": LOAD_S,
                    "since": 0.0,
                    **{k: v for k, v in fields.items() if k not in ("pool", "shape")},
                },
            )

    def wait(self, name: str, *, gpus: int, count: int = 1) -> None:
        """Let replicas of a service wait."""
        key = self.service(name, gpus=gpus)
        self.waiting.append(Waiting(key, self.services[key].options, count))

    def change(self, uid: str, **fields: Any) -> None:
        """Change facts about a replica."""
        self.replicas[uid] = replace(self.replicas[uid], **fields)

    def fail(self, *names: str, kind: str = "KernelDeadlock", ago: float | None = 120.0) -> None:
        """Let nodes show a sign of failing, and no others."""
        since = None if ago is None else self.now - ago
        signs = (Sign(kind, f"{kind} (TaskHung)", since),)
        self.pools = [
            replace(
                p, nodes=tuple(replace(n, signs=signs if n.name in names else ()) for n in p.nodes)
            )
            for p in self.pools
        ]

    def fleet(self, replicas: Iterable[Replica] | None = None) -> MovableFleet:
        """Return what the planner sees."""
        popular = {shape(g).need: w for g, w in self.popular.items()}
        ledger = Ledger(popular)
        for one in self.replicas.values():
            ledger.book(one.node, one.shape.need, self._resource(one.pool))
        seen = tuple(self.replicas.values() if replicas is None else replicas)
        return MovableFleet(
            tuple(self.pools),
            ledger,
            dict(self.services),
            seen,
            tuple(self.waiting),
            tuple(self.open.values()),
            frozenset(self.left),
        )

    def plan(self) -> Plan:
        """Return what the planner proposes now."""
        return propose(self.fleet(), self.now)

    def begin(self, move: Move) -> str:
        """Start the new replica of a move; return its UID."""
        old = self.replicas[move.uid]
        option = self.services[old.service].by_pool.get(move.target_pool)
        pod = f"{old.pod.split('.')[0]}.{len(self.history)}"
        where = move.target_node or self._brought(move.target_pool)
        self.replicas[f"u-{pod}"] = replace(
            old,
            pod=pod,
            uid=f"u-{pod}",
            pool=move.target_pool,
            node=where,
            shape=option.shape if option else old.shape,
            since=self.now,
            ready=False,
            disturbed=old.disturbed or move.reason is MoveReason.INTERFERENCE,
            late=None,
        )
        if move.reason is MoveReason.NODE_FAILING:
            self.left.add(old.node)
        self.open[move.uid] = OpenMove(move.uid, f"u-{pod}")
        self._ends[move.uid] = self.now + old.load_seconds
        self.history.append((self.now, move, f"u-{pod}"))
        return f"u-{pod}"

    def pass_by(self, seconds: float) -> None:
        """Let time pass: moves come to their end, and what waits gets the room that is free."""
        self.now += seconds
        for uid in [u for u, end in self._ends.items() if end <= self.now]:
            successor = self.open.pop(uid).successor
            del self._ends[uid], self.replicas[uid]
            self.change(str(successor), ready=True, since=self.now)
        self._admit()

    def _admit(self) -> None:
        left = []
        for one in self.waiting:
            count = one.count
            while count and (found := self._room(one)) is not None:
                self.run(one.service.name, found[1], pool=found[0].pool, shape=found[0].shape)
                newest = list(self.replicas)[-1]
                self.change(newest, since=self.now)
                count -= 1
            if count:
                left.append(replace(one, count=count))
        self.waiting = left

    def _room(self, waiting: Waiting) -> tuple[Option, str] | None:
        fleet = self.fleet()
        for option in waiting.options:
            found = next(fleet.ledger.fitting(fleet.pool_of[option.pool], option.shape), None)
            if found is not None:
                return option, found[0].name
        return None

    def settle(self, most: int = 60) -> int:
        """Carry out what is proposed until nothing is, with time to rest; return how many moves."""
        begun = 0
        for _ in range(most):
            plan = self.plan()
            for move in plan.moves:
                self.begin(move)
                begun += 1
            if not plan.moves and not self.open:
                before, self.now = self.now, self.now + 20 * LOAD_S
                if not self.plan().moves:
                    return begun
                self.now = before
            self.pass_by(11 * LOAD_S)
        raise AssertionError("it does not come to rest")

    def _brought(self, name: str) -> str:
        """Return a new node of an elastic pool, brought by its autoscaler."""
        new = node(f"{name}-new{len(self.history)}", gpus=8)
        self.pools = [
            replace(p, nodes=(*p.nodes, new)) if p.name == name else p for p in self.pools
        ]
        return new.name

    def _pool_of(self, name: str) -> str:
        return next(p.name for p in self.pools for n in p.nodes if n.name == name)

    def _resource(self, name: str) -> str:
        return next(p.spec.resource_name for p in self.pools if p.name == name)


def world(*gpus: int, popular: Mapping[int, float] | None = None, **spec: Any) -> World:
    """Return one pool "a" of nodes n1, n2 and so on with so many GPUs."""
    zones = spec.pop("zones", ())
    spec = {"disruptionBudget": "100%", **spec}
    return World([pool("a", *nodes("n", *gpus, zones=zones), **spec)], popular or {})
