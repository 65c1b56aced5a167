"""``explain``: one service with the numbers behind every decision on it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conch.api.conditions import ConditionType, Reason
from conch.api.names import ANNOTATION_PAUSED
from conch.cli.plugin_advice import ADVICE
from conch.cli.plugin_callers import callers
from conch.cli.plugin_read import Reading, event_time
from conch.cli.plugin_scaling import reasons
from conch.cli.plugin_tenants import TenantUse
from conch.decisions import placement
from conch.decisions.fleet import Pod, Pool, Shape
from conch.decisions.placement import Ledger
from conch.provisioning.metadata import bounded
from conch.reconcile import health
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.status import failing_nodes, pool_status
from conch.reconcile.telling import SCALED_DOWN, SCALED_UP

Object = dict[str, Any]
NOT_RUNNING = (
    "No operator runs now: what is said here is what the last one saw. Replicas serve on and come "
    "back when lost; nothing is scaled or placed. Look at: kubectl get pods -A "
    "-l app.kubernetes.io/name=conch"
)


@dataclass(frozen=True)
class ConditionLine:
    """A condition as its status has it; its age is that of its status."""

    type: str
    status: str
    reason: str
    message: str
    age_seconds: float


@dataclass(frozen=True)
class PoolLine:
    """A pool for this service: what it has, what one more replica needs, how many fit."""

    pool: str
    accelerator: str
    allowed: bool
    replicas: int
    ready: int
    nodes: int
    gpus: int
    free_gpus: int
    replica_needs: str | None
    room: int | None
    """Replicas that still fit; None where that is not known."""
    says: str
    """What stands in the way of one more, or why the pool is not used."""


@dataclass(frozen=True)
class PodLine:
    """A replica and what it does."""

    name: str
    pool: str
    revision: str
    node: str
    state: str
    age_seconds: float


@dataclass(frozen=True)
class EventLine:
    """An Event."""

    age_seconds: float
    type: str
    reason: str
    message: str


@dataclass(frozen=True)
class Explanation:
    """All that ``explain`` says about a service."""

    namespace: str
    name: str
    model: str
    variant: str | None
    revision: str | None
    wanted_revision: str | None
    url: str | None
    grpc: str | None
    callers: str
    """Who may ask it, in words."""
    ready: int
    replicas: int
    desired: int | None
    bounds: str
    paused: bool
    operator: str
    conditions: tuple[ConditionLine, ...]
    pools: tuple[PoolLine, ...]
    pods: tuple[PodLine, ...]
    events: tuple[EventLine, ...]
    todo: tuple[str, ...]
    notes: tuple[str, ...]
    why: tuple[str, ...] = ()
    """Sentences from what is asked for to the number of replicas."""
    changes: tuple[EventLine, ...] = ()
    """Events about another number of replicas."""
    scaling: Mapping[str, Any] | None = None
    """What the operator counted from; None where it could not be asked."""
    tenant: TenantUse | None = None
    """Who the service counts for."""


def explain(
    service: Object,
    reading: Reading,
    events: Sequence[Object],
    now: float,
    *,
    account: Mapping[str, Any] | None = None,
    tenant: TenantUse | None = None,
) -> Explanation:
    """Return the explanation of a ModelService; ``now`` in seconds since the epoch.

    ``account``: what the operator says of its scaling; ``tenant``: whom its namespace belongs to.
    """
    metadata, spec = service["metadata"], service.get("spec") or {}
    status = service.get("status") or {}
    facts = _facts(service, reading)
    conditions = tuple(_condition(c, now) for c in status.get("conditions") or ())
    pods = facts.service.pods if facts else ()
    ill = {n.name: n.signs[0].kind for p in reading.fleet.pools for n in p.nodes if n.signs}
    told = tuple(_event(e, now) for e in events)
    return Explanation(
        namespace=metadata["namespace"],
        name=metadata["name"],
        model=f"{spec.get('model', {}).get('kind', 'Model')} {spec.get('model', {}).get('name')}",
        variant=status.get("variant"),
        revision=status.get("revision"),
        wanted_revision=facts.service.revision if facts else None,
        url=status.get("url"),
        grpc=status.get("grpc"),
        callers=callers(service, tenant.tenant if tenant else None),
        ready=status.get("readyReplicas", 0),
        replicas=status.get("replicas", 0),
        desired=status.get("desiredReplicas"),
        bounds=_bounds(spec),
        paused=is_paused(service),
        operator=_operator(reading),
        conditions=conditions,
        pools=tuple(_pools(facts, reading)) if facts else (),
        pods=tuple(_pod(p, now, ill, nodes_known=reading.nodes_known) for p in pods),
        events=told,
        todo=tuple(_todo(service, conditions, reading)),
        notes=tuple(reading.notes),
        why=tuple(reasons(account)) if account else (),
        changes=tuple(e for e in told if e.reason in (SCALED_UP, SCALED_DOWN)),
        scaling=account,
        tenant=tenant,
    )


def is_paused(service: Object) -> bool:
    """Tell whether Conch is told to leave a service alone."""
    annotations = service["metadata"].get("annotations") or {}
    return bool(annotations.get(ANNOTATION_PAUSED) == "true")


def _facts(service: Object, reading: Reading) -> ServiceFacts | None:
    uid = service["metadata"]["uid"]
    return next((f for f in reading.fleet.services if f.owner.uid == uid), None)


def _bounds(spec: Object) -> str:
    scaling = spec.get("scaling") or {}
    least = scaling.get("minReplicas", 1)
    text = f"{least} to {scaling.get('maxReplicas', least)}"
    return f"{text}, spec.replicas asks for {spec['replicas']}" if "replicas" in spec else text


def _operator(reading: Reading) -> str:
    if not reading.lease_known:
        return "unknown (you may not read its lease)"
    if reading.leader is None or not reading.leader.alive:
        return "not running"
    return f"{reading.leader.holder}"


def _condition(condition: Object, now: float) -> ConditionLine:
    return ConditionLine(
        type=condition["type"],
        status=condition["status"],
        reason=condition["reason"],
        message=condition["message"],
        age_seconds=now - event_time({"lastTimestamp": condition["lastTransitionTime"]}),
    )


def _event(event: Object, now: float) -> EventLine:
    return EventLine(
        age_seconds=now - event_time(event),
        type=event.get("type", "Normal"),
        reason=event.get("reason", ""),
        message=event.get("message", ""),
    )


def _pod(pod: Pod, now: float, ill: Mapping[str, str], *, nodes_known: bool) -> PodLine:
    state, sign = _state(pod, lost=pod.lost and nodes_known), ill.get(pod.node or "")
    return PodLine(
        name=pod.name,
        pool=pod.pool,
        revision=pod.revision,
        node=pod.node or "-",
        state=f"{state}, its node shows {sign}" if sign else state,
        age_seconds=now - pod.created,
    )


def _state(pod: Pod, *, lost: bool) -> str:
    if pod.deleting:
        return "ends"
    if lost:
        return "its node is gone"
    if pod.node is None:
        return _waiting(pod)
    if pod.draining_since is not None or not pod.serving:
        return "drains"
    failure = health.failure_of([pod])
    running = "serves" if pod.ready else "starts"
    return failure.reason if failure else running


def _waiting(pod: Pod) -> str:
    if pod.gated:
        return "waits for a place"
    return f"not scheduled: {pod.unschedulable}" if pod.unschedulable else "is being scheduled"


def _pools(facts: ServiceFacts, reading: Reading) -> Iterator[PoolLine]:
    """Yield the pools that the service may use, the preferred first, then the others."""
    for pool in facts.pools:
        yield _pool(facts, pool, reading)
    allowed = {p.name for p in facts.pools}
    for pool in reading.fleet.pools:
        if pool.name not in allowed:
            yield _pool_line(facts, pool, reading, says="spec.placement leaves it out")


def _pool(facts: ServiceFacts, pool: Pool, reading: Reading) -> PoolLine:
    shape = facts.shapes.get(pool.name)
    if shape is None:
        return _pool_line(facts, pool, reading, says="needs are not known: no model")
    if not reading.nodes_known:
        return _pool_line(facts, pool, reading, says="room is not known", shape=shape)
    ledger = Ledger()
    room = placement.room(pool, shape, ledger, most=99)
    if pool.spec.elastic:
        return _pool_line(facts, pool, reading, says="nodes come when needed", shape=shape)
    if room:
        says = failing_nodes(pool)
    else:
        says = placement.explain(pool, shape, ledger).partition(": ")[2]
    return _pool_line(facts, pool, reading, says=says, shape=shape, room=room)


def _pool_line(
    facts: ServiceFacts,
    pool: Pool,
    reading: Reading,
    *,
    says: str,
    shape: Shape | None = None,
    room: int | None = None,
) -> PoolLine:
    mine = [
        p
        for p in facts.service.pods
        if p.pool == bounded(pool.name) and not p.deleting and not p.gated
    ]
    numbers = _numbers(pool, reading)
    return PoolLine(
        pool=pool.name,
        accelerator=pool.spec.accelerator,
        allowed=pool in facts.pools,
        replicas=len(mine),
        ready=sum(p.ready for p in mine),
        nodes=numbers.get("nodes", 0),
        gpus=numbers.get("gpus", 0),
        free_gpus=numbers.get("free", 0),
        replica_needs=_needs(shape) if shape else None,
        room=room,
        says=says,
    )


def _numbers(pool: Pool, reading: Reading) -> Mapping[str, int]:
    """Return a pool's nodes and GPUs: counted, or what its status says where nodes are hidden."""
    body = reading.store.get("GPUPool", pool.name) or {"metadata": {}}
    if not reading.nodes_known:
        return body.get("status") or {}
    return pool_status({**body, "status": {}}, pool, "1970-01-01T00:00:00Z")


def _needs(shape: Shape) -> str:
    need = shape.need
    parts = [f"{need.gpus} GPU" + ("" if need.gpus == 1 else "s")]
    parts += [f"{need.cpu:g} CPU"] if need.cpu else []
    parts += [f"{need.memory / 2**30:.3g} GiB"] if need.memory else []
    return ", ".join(parts)


def _todo(service: Object, conditions: Sequence[ConditionLine], reading: Reading) -> Iterator[str]:
    """Yield what to do, the nearest cause first; nothing where nothing is wrong."""
    if "deletionTimestamp" in service["metadata"]:
        yield "The service is being deleted; apply it again to keep it."
        return
    if reading.lease_known and not (reading.leader and reading.leader.alive):
        yield NOT_RUNNING
    elif _lags(service):
        yield (
            "The operator has not looked at the newest spec yet; ask again in a few seconds. If it "
            "stays so, read its log."
        )
    yield from _for_conditions(conditions, service["metadata"]["name"])


def _lags(service: Object) -> bool:
    seen = (service.get("status") or {}).get("observedGeneration", 0)
    return bool(seen < service["metadata"].get("generation", 0))


def _for_conditions(conditions: Sequence[ConditionLine], name: str) -> Iterator[str]:
    told: set[str] = set()
    for condition in conditions:
        known = ADVICE.get(Reason(condition.reason)) if condition.reason in set(Reason) else None
        if known is None or known.todo is None or condition.reason in told or not _wrong(condition):
            continue
        told.add(condition.reason)
        yield f"{condition.reason}: {known.todo.replace('NAME', name)}"


def _wrong(condition: ConditionLine) -> bool:
    """Tell whether a condition asks for a look: abnormal ones when true, the others when not."""
    if condition.type in (ConditionType.STALLED, ConditionType.RECONCILING):
        return condition.status == "True"
    if condition.reason == Reason.FIXED_REPLICAS:
        return False  # as the user wished
    limited = (Reason.AT_MAXIMUM, Reason.LIMITED_BY_CAPACITY, Reason.PARTIAL_METRICS)
    return condition.status != "True" or condition.reason in limited
