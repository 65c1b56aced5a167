"""The operator's own sharing as a policy, with its defaults: half-life 12 h, K = 1, 3 L to run."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache, lru_cache

from conch.api.pool import GPUPoolSpec
from conch.decisions.fleet import Amounts, Node, Pool, ServiceKey, Shape
from conch.decisions.placement import Ledger, choose, popular
from conch.decisions.shares import Claim, Holding, Shares, Tenant, share
from conch.decisions.shares.usage import HALF_LIFE_S, Held, Record, entry_penalty, recorded
from e2e.bench.fairness.scene import (
    GPUS_PER_NODE,
    LOAD_SECONDS,
    Plan,
    Replica,
    Scene,
    Start,
    Wish,
)

_POOL = "gpus"
_RESOURCE = "nvidia.com/gpu"
_EPOCH = 1_700_000_000.0
"""Seconds since the epoch at which a simulation begins."""
_SPEC = GPUPoolSpec.model_validate({"accelerator": _POOL, "nodeSelector": {"pool": _POOL}})
_PLENTY = {"cpu": 1e4, "memory": 1e15, "pods": 110.0}
"""GPUs are what is short."""


class Conch:
    """Keeps what tenants used, as the operator does in the status of Tenants."""

    def __init__(self, half_life: float = HALF_LIFE_S) -> None:
        self._half_life = half_life
        self._records: dict[str, Record] = {}

    def __call__(self, scene: Scene) -> Plan:
        """Ask ``share``, and give its grants nodes as the operator does: by what is popular."""
        wanted = popular(_demand(scene))
        found = share(
            self._tenants(scene),
            [_claim(wish, scene.now) for wish in scene.wishes],
            [_pool(scene.nodes)],
            free=_booked(Ledger(wanted), scene.replicas()),
            now=_EPOCH + scene.now,
        )
        gone = frozenset(name for grant in found.grants.values() for name in grant.given_up)
        staying = [r for r in scene.replicas() if r.id not in gone]
        ledger = _booked(Ledger(wanted), staying)
        return Plan(list(_starts(scene, found, ledger)), gone)

    def _tenants(self, scene: Scene) -> list[Tenant]:
        replicas: dict[str, list[Replica]] = defaultdict(list)
        for replica in scene.replicas():
            replicas[replica.tenant].append(replica)
        return [
            Tenant(name, weight, usage=self._usage(name, replicas[name], scene.now))
            for name, weight in scene.weights.items()
        ]

    def _usage(self, tenant: str, replicas: Iterable[Replica], now: float) -> float:
        held = [Held(_POOL, r.gpus, r.gpus) for r in replicas]
        record = recorded(self._records.get(tenant), held, now, self._half_life)
        self._records[tenant] = record
        young = ((float(r.gpus), now - r.started, LOAD_SECONDS) for r in replicas)
        return record.usage + entry_penalty(young, self._half_life)


def _booked(ledger: Ledger, replicas: Iterable[Replica]) -> Ledger:
    for replica in replicas:
        ledger.book(_node_name(replica.node), _need(replica.gpus))
    return ledger


def _claim(wish: Wish, now: float) -> Claim:
    work = wish.work
    return Claim(
        key=ServiceKey(work.tenant, work.name),
        tenant=work.tenant,
        wished=wish.wished,
        pools=(_POOL,),
        shapes={_POOL: _shape(work.gpus)},
        held=tuple(_holding(r, now) for r in wish.held),
        created=_written(work.arrived),
        load_seconds=LOAD_SECONDS,
    )


def _holding(replica: Replica, now: float) -> Holding:
    worth = 3 if replica.ready <= now else 2
    created = _EPOCH + replica.started
    return Holding(replica.id, _POOL, _node_name(replica.node), created, worth)


def _starts(scene: Scene, found: Shares, ledger: Ledger) -> Iterator[Start]:
    """Yield the new replicas that find a node; the others may next time."""
    for wish in scene.wishes:
        grant = found.grants[ServiceKey(wish.work.tenant, wish.work.name)]
        staying = sum(r.id not in grant.given_up for r in wish.held)
        for _ in range(grant.total - staying):
            node = choose(_pool(scene.nodes), _shape(wish.work.gpus), ledger)
            if node is None:
                break
            ledger.book(node, _need(wish.work.gpus))
            yield Start(wish.work.name, int(node))


def _demand(scene: Scene) -> Iterable[tuple[Amounts, float]]:
    """Yield what replicas ask for, and how many GPUs in all: placement keeps room for such."""
    return ((_need(w.work.gpus), float(w.wished * w.work.gpus)) for w in scene.wishes)


@cache
def _need(gpus: int) -> Amounts:
    return Amounts(gpus=gpus, cpu=0.1, memory=1.0, pods=1)


@cache
def _shape(gpus: int) -> Shape:
    return Shape(_need(gpus), ())


@lru_cache(maxsize=1)
def _pool(nodes: int) -> Pool:
    return Pool(
        _POOL,
        _SPEC,
        tuple(
            Node(
                name=_node_name(number),
                labels={},
                ready=True,
                schedulable=True,
                taints=(),
                allocatable={_RESOURCE: float(GPUS_PER_NODE), **_PLENTY},
                requested={},
                pods=0,
            )
            for number in range(nodes)
        ),
    )


def _node_name(number: int) -> str:
    return f"{number:04}"


@cache
def _written(arrived: float) -> str:
    return datetime.fromtimestamp(_EPOCH + arrived, UTC).isoformat(timespec="milliseconds")
