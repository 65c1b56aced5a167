"""What an object's status says: facts, and conditions with the numbers behind them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from conch.api.conditions import Condition, ConditionType, Reason, Wish, updated
from conch.api.names import API_VERSION, LABEL_SERVICE
from conch.api.pool import GPUPoolStatus
from conch.api.rollout import RolloutStatus
from conch.api.service import ModelServiceStatus, PoolReplicas
from conch.decisions.fleet import Pod, Pool
from conch.decisions.moving import movable
from conch.decisions.repair import TRIES
from conch.decisions.rolling import Rollout
from conch.decisions.scaling import ScalingDecision
from conch.decisions.shares import Grant
from conch.decisions.steps import Plan
from conch.provisioning.metadata import bounded
from conch.provisioning.service import grpc, url
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.health import Failure, failure_of
from conch.reconcile.migrations import News
from conch.reconcile.resolve import Fault, parsed
from conch.reconcile.rollout_status import status_of
from conch.reconcile.settings import FrontDoor

Object = dict[str, Any]
C = ConditionType
_DRIFTING = (Reason.AWAITING_SHARE, Reason.LIMITED_BY_SHARE)
"""Reasons whose numbers change with time alone."""
_BLIND = (Reason.NO_METRICS, Reason.PARTIAL_METRICS, Reason.ABSURD_METRICS)
"""Reasons that say more of scaling than that shares limit it."""
_MOST_NAMED = 3
"""Nodes of a pool that are told by name."""


@dataclass(frozen=True)
class Outcome:
    """What a tick found out about a service."""

    facts: ServiceFacts
    plan: Plan
    scaling: ScalingDecision | None
    unplaceable: Fault | None
    """No pool suits at all."""
    error: str | None = None
    """The API server refused a write."""
    paused: bool = False
    wanted: int | None = None
    """Replicas that were planned for; None where nothing could be decided."""
    grant: Grant | None = None
    """What the service may have; None where that was not asked."""
    migrations: tuple[News, ...] = ()
    """What there is to tell of its migrations."""
    rollout: Rollout | None = None
    """How far the last new revision has come; None where nothing was decided on one."""


def signature(outcome: Outcome) -> tuple[object, ...]:
    """Return all that a status is made from, to tell whether it has to be made anew.

    But for the words of a scaling that works: its numbers change with each scrape.
    """
    s = outcome.scaling
    scaling = s and (s.replicas, s.wished, s.reason, s.active, None if s.active else s.message)
    why = outcome.grant and outcome.grant.reason
    rest = (outcome.unplaceable, outcome.error, outcome.paused, outcome.wanted, why)
    return (
        outcome.facts.versions,
        outcome.plan,
        scaling,
        outcome.migrations,
        outcome.rollout,
        *rest,
    )


def substance(status: Object) -> Object:
    """Return a status without the words of conditions that tell of no trouble."""
    conditions = [
        {k: v for k, v in c.items() if k != "message" or _troubling(c)}
        for c in status.get("conditions") or ()
    ]
    return {**status, "conditions": conditions}


def _troubling(condition: Object) -> bool:
    if condition["reason"] in _DRIFTING:
        return False
    bad = "True" if condition["type"] in (C.RECONCILING, C.STALLED) else "False"
    return bool(condition["status"] == bad)


def service_status(outcome: Outcome, now: str, door: FrontDoor | None = None) -> Object:
    """Return the status object of a ModelService, ready to be applied."""
    facts = outcome.facts
    service = facts.service
    namespace, name = service.key
    live = [p for p in service.pods if not p.deleting]
    pools = _pool_replicas(facts, live)
    status = ModelServiceStatus(
        observed_generation=_generation(facts.body),
        url=door.url_of(namespace, name) if door else url(name, namespace),
        grpc=door.grpc_of(namespace, name) if door else grpc(name, namespace),
        selector=f"{LABEL_SERVICE}={bounded(service.key.name)}",
        replicas=sum(not p.gated for p in live),
        ready_replicas=len(_answering(facts)),
        desired_replicas=outcome.wanted,
        variant=_variant(facts),
        revision=service.serving_revision or outcome.plan.serving_revision,
        pools=pools,
        where=", ".join(f"{p.pool} x {p.replicas}" for p in pools) or None,
        rollout=_rollout(outcome),
        conditions=updated(
            _old_conditions(facts.body),
            service_wishes(outcome),
            generation=_generation(facts.body),
            now=now,
        ),
    )
    return status.to_dict()


def _rollout(outcome: Outcome) -> RolloutStatus | None:
    rollout = outcome.rollout or outcome.facts.rollout
    return None if rollout is None else status_of(rollout)


def _generation(body: Object) -> int:
    return int(body["metadata"].get("generation", 0))


def _old_conditions(body: Object) -> list[Condition]:
    found = [parsed(Condition, c) for c in (body.get("status") or {}).get("conditions") or []]
    # One that another version wrote and this one can't read is written anew.
    return [c for c in found if isinstance(c, Condition)]


def _answering(facts: ServiceFacts) -> list[Pod]:
    """Return the pods that get traffic and answer it."""
    return [
        p
        for p in facts.service.pods
        if p.ready
        and p.serving
        and not p.deleting
        and not p.broken
        and p.revision == facts.service.serving_revision
    ]


def _variant(facts: ServiceFacts) -> str | None:
    revision = facts.service.serving_revision or facts.service.revision or ""
    snapshot = facts.snapshots.get(revision)
    return snapshot.variant.name if snapshot else None


def _pool_replicas(facts: ServiceFacts, live: Sequence[Pod]) -> list[PoolReplicas]:
    return [
        PoolReplicas(
            pool=pool.name,
            accelerator=pool.spec.accelerator,
            replicas=len(mine),
            ready=sum(p.ready for p in mine),
        )
        for pool in facts.pools
        if (mine := [p for p in live if p.pool == pool.name and not p.gated])
    ]


def service_wishes(outcome: Outcome) -> list[Wish]:
    """Return the conditions that hold for a service now."""
    facts = outcome.facts
    wanted = facts.service.newer or facts.service.serving_revision
    mine = [p for p in facts.service.pods if p.revision == wanted and not p.deleting]
    failure = failure_of(mine)
    return [
        _ready(outcome, failure),
        _admitted(outcome),
        _loaded(facts, mine, failure),
        scaling_wish(outcome),
        _reconciling(outcome, mine),
        _stalled(outcome, failure),
    ]


def _ready(outcome: Outcome, failure: Failure | None) -> Wish:
    facts = outcome.facts
    answering = len(_answering(facts))
    wanted = facts.spec.scaling.min_replicas if outcome.wanted is None else outcome.wanted
    if answering:
        # While paused nothing is decided, so only what answers can be told.
        of = f" of {wanted}" if outcome.scaling else ""
        return Wish(C.READY, True, Reason.SERVING, f"{answering}{of} replicas answer")
    if outcome.wanted == 0:
        return _without_replicas(outcome)
    return _unready(outcome, failure, wanted)


def _unready(outcome: Outcome, failure: Failure | None, wanted: int) -> Wish:
    """Return why no replica answers though some are wanted."""
    facts, broken, admitted = outcome.facts, _broken(outcome.facts), _admitted(outcome)
    if broken:
        return Wish(C.READY, False, Reason.REPLICA_NOT_ANSWERING, "; ".join(broken))
    if facts.fault is not None:
        return Wish(C.READY, False, facts.fault.reason, facts.fault.message)
    if failure is not None:
        return Wish(C.READY, False, failure.reason, failure.message)
    if admitted.status is False:
        return Wish(C.READY, False, admitted.reason, admitted.message)
    return Wish(C.READY, False, Reason.NO_READY_REPLICA, f"0 of {wanted} replicas answer")


def _broken(facts: ServiceFacts) -> list[str]:
    """Return the replicas that take requests and answer none, and how that showed."""
    return [f"{p.name}: {p.broken}" for p in facts.service.pods if p.broken and not p.deleting]


def _without_replicas(outcome: Outcome) -> Wish:
    """Return what holds of a service that is to have none; one that is woken by a request is ready."""
    decision = outcome.scaling
    if decision is None or decision.wished == 0:
        asleep = decision is not None and decision.reason is Reason.SCALED_TO_ZERO
        words = decision.message if decision is not None and asleep else "no replica is wanted now"
        return Wish(C.READY, asleep, Reason.SCALED_TO_ZERO, words)
    why = scaling_wish(outcome)
    return Wish(C.READY, False, why.reason, why.message)


def _admitted(outcome: Outcome) -> Wish:
    if outcome.paused:
        return Wish(C.ADMITTED, None, Reason.PAUSED, "nothing is placed: conch.dev/paused is set")
    return _placed(outcome)


def _placed(outcome: Outcome) -> Wish:
    plan, facts = outcome.plan, outcome.facts
    if outcome.unplaceable is not None:
        return Wish(C.ADMITTED, False, outcome.unplaceable.reason, outcome.unplaceable.message)
    if facts.fault is not None and plan.serving_revision is None:
        return Wish(C.ADMITTED, None, facts.fault.reason, "there is no revision to place yet")
    refusals = sorted({s.refusal for s in facts.service.sets if s.refusal})
    if refusals:
        return Wish(C.ADMITTED, False, Reason.QUOTA_REFUSED, refusals[0])
    if plan.shortage:
        return _short(outcome)
    waiting = [p for p in facts.service.pods if p.gated and not p.deleting]
    if waiting and plan.obstacles:
        return Wish(C.ADMITTED, False, Reason.INSUFFICIENT_CAPACITY, "; ".join(plan.obstacles))
    return Wish(C.ADMITTED, True, Reason.PLACED, "every wanted replica has a place")


def _short(outcome: Outcome) -> Wish:
    """Return why replicas that are insisted on have no place."""
    plan, grant = outcome.plan, outcome.grant
    one = plan.shortage == 1
    if grant is not None and grant.reason is not None:
        lacks = "1 more replica" if one else f"{plan.shortage} more replicas"
        return Wish(C.ADMITTED, False, grant.reason, f"{lacks} may not be had: {grant.message}")
    more = "1 more replica fits" if one else f"{plan.shortage} more replicas fit"
    text = f"{more} nowhere: {'; '.join(plan.obstacles)}"
    return Wish(C.ADMITTED, False, Reason.INSUFFICIENT_CAPACITY, text)


def _loaded(facts: ServiceFacts, mine: Sequence[Pod], failure: Failure | None) -> Wish:
    if facts.fault is not None:
        return Wish(C.LOADED, False, facts.fault.reason, facts.fault.message)
    if failure is not None:
        return Wish(C.LOADED, False, failure.reason, failure.message)
    if any(p.ready for p in mine):
        return Wish(C.LOADED, True, Reason.MODEL_LOADED, "the model answers")
    return Wish(C.LOADED, None, Reason.MODEL_LOADING, "no replica has loaded the model yet")


def scaling_wish(outcome: Outcome) -> Wish:
    """Return what is told of a service's scaling."""
    if outcome.paused:
        return Wish(C.SCALING_ACTIVE, False, Reason.PAUSED, "conch.dev/paused is set")
    decision = outcome.scaling
    if decision is None:
        return Wish(C.SCALING_ACTIVE, None, Reason.NO_METRICS, "nothing to scale yet")
    grant, wanted = outcome.grant, outcome.wanted
    held_back = wanted is not None and wanted < decision.wished
    told = decision.reason not in _BLIND
    if held_back and told and grant is not None and grant.reason is not None:
        text = f"{decision.wished} replicas are wished for, {wanted} may be had: {grant.message}"
        return Wish(C.SCALING_ACTIVE, decision.active, Reason.LIMITED_BY_SHARE, text)
    return Wish(C.SCALING_ACTIVE, decision.active, decision.reason, decision.message)


def _reconciling(outcome: Outcome, mine: Sequence[Pod]) -> Wish:
    plan, service = outcome.plan, outcome.facts.service
    if outcome.paused:
        text = "nothing is changed: conch.dev/paused is set"
        return Wish(C.RECONCILING, False, Reason.PAUSED, text)
    moving = [
        f"{s.pool}: {s.replicas} to {s.target} replicas"
        for s in plan.sets
        if s.gated or s.target != s.replicas
    ]
    if plan.serving_revision and service.newer not in (None, plan.serving_revision):
        told = f": {outcome.rollout.message}" if outcome.rollout is not None else ""
        moving.append(f"revision {service.newer} is to replace {plan.serving_revision}{told}")
    starting = sum(not p.ready for p in mine)
    if starting:
        moving.append(f"{starting} replicas are starting")
    replaced = [f"{p.name} is replaced: {p.broken}" for p in service.pods if p.replaced]
    if replaced:
        text = "; ".join((*replaced, *moving))
        return Wish(C.RECONCILING, True, Reason.REPLICA_NOT_ANSWERING, text)
    leaving = left_nodes(outcome)
    if leaving:
        return Wish(C.RECONCILING, True, Reason.MOVING, "; ".join((*leaving, *moving)))
    if moving:
        return Wish(C.RECONCILING, True, Reason.PROGRESSING, "; ".join(moving))
    return Wish(C.RECONCILING, False, Reason.SETTLED, "what is wanted is there")


def left_nodes(outcome: Outcome) -> list[str]:
    """Return which replicas are to leave their nodes, and why they still stay where they do."""
    old = movable(outcome.facts.service)
    words = [f"{p.name} leaves {p.node}, which is {p.leaves}" for p in old]
    moves = [
        f"{p.name} leaves {p.node} by {p.moves}" for p in outcome.facts.service.pods if p.moves
    ]
    words += moves
    stuck = outcome.plan.stuck
    return [*words, f"no other place yet: {'; '.join(stuck)}"] if old and stuck else words


def _stalled(outcome: Outcome, failure: Failure | None) -> Wish:
    fault = outcome.facts.fault
    if outcome.error is not None:
        return Wish(C.STALLED, True, Reason.CONFLICT, outcome.error)
    if fault is not None:
        return Wish(C.STALLED, True, fault.reason, fault.message)
    if failure is not None:
        return Wish(C.STALLED, True, failure.reason, failure.message)
    rollout = outcome.facts.rollout
    if outcome.facts.choice.rejected and rollout is not None:
        text = f"revision {rollout.revision} was taken back, {rollout.stable} serves: {rollout.message}"
        return Wish(C.STALLED, True, Reason.ROLLED_BACK, text)
    if outcome.facts.service.irreparable:
        text = f"no replica answers, nor did {TRIES} that were made again: "
        text += "; ".join(_broken(outcome.facts))
        return Wish(C.STALLED, True, Reason.REPLICA_NOT_ANSWERING, text)
    return Wish(C.STALLED, False, Reason.SETTLED, "nothing stands in the way")


def broken_status(body: Object, fault: Fault, now: str) -> Object:
    """Return the status of an object whose spec can't be read; what runs is left alone."""
    old = body.get("status") or {}
    wishes = [Wish(C.STALLED, True, fault.reason, fault.message)]
    kept = [c for c in _old_conditions(body) if c.type != C.STALLED]
    conditions = updated(_old_conditions(body), wishes, generation=_generation(body), now=now)
    if not any(c.type == C.READY for c in kept):
        ready = [Wish(C.READY, False, fault.reason, fault.message)]
        kept += updated(kept, ready, generation=_generation(body), now=now)
    both = [c.to_dict() for c in (*kept, *conditions)]
    return {**old, "observedGeneration": _generation(body), "conditions": both}


def pool_status(
    body: Object, pool: Pool, now: str, *, overlap: str | None = None, overbooked: str | None = None
) -> Object:
    """Return the status object of a GPUPool.

    ``overlap`` says with which others it overlaps, ``overbooked`` that quotas leave nothing, if so.
    """
    resource = pool.spec.resource_name
    total = sum(round(n.allocatable.get(resource, 0.0)) for n in pool.nodes)
    used = sum(round(n.requested.get(resource, 0.0)) for n in pool.nodes)
    ready = [n for n in pool.nodes if n.ready]
    if ready:
        text = f"{len(ready)} of {len(pool.nodes)} nodes are ready"
        if ill := failing_nodes(pool):
            text += f"; {ill}"
        wish = Wish(C.READY, True, Reason.NODES_READY, text)
    else:
        labels = ", ".join(f"{k}={v}" for k, v in sorted(pool.spec.node_selector.items()))
        text = (
            f"none of {len(pool.nodes)} nodes is ready"
            if pool.nodes
            else f"no node carries {labels}; label nodes so, or correct spec.nodeSelector"
        )
        wish = Wish(C.READY, False, Reason.POOL_WITHOUT_NODES, text)
    wishes = [wish]
    if overlap:
        wishes.append(Wish(C.STALLED, True, Reason.POOLS_OVERLAP, overlap))
    elif overbooked:
        wishes.append(Wish(C.STALLED, True, Reason.QUOTAS_LEAVE_NO_FLOOR, overbooked))
    return GPUPoolStatus(
        observed_generation=_generation(body),
        nodes=len(pool.nodes),
        gpus=total,
        allocated=used,
        free=total - used,
        conditions=updated(_old_conditions(body), wishes, generation=_generation(body), now=now),
    ).to_dict()


def failing_nodes(pool: Pool) -> str:
    """Return which nodes of a pool show signs of failing, without what changes in their messages.

    Empty where none does.
    """
    ill = [f"{n.name} ({', '.join(s.kind for s in n.signs)})" for n in pool.nodes if n.signs]
    if not ill:
        return ""
    more = f" and {len(ill) - _MOST_NAMED} more" if len(ill) > _MOST_NAMED else ""
    return f"signs of failing: {', '.join(ill[:_MOST_NAMED])}{more}"


def status_object(body: Object, kind: str, status: Object) -> Object:
    """Return what is applied to the status subresource of an object."""
    metadata = body["metadata"]
    namespace = {"namespace": metadata["namespace"]} if "namespace" in metadata else {}
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": metadata["name"], **namespace},
        "status": status,
    }
