"""From a service's facts and signals to the load that scaling decides on. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from conch.api.base import parse_duration
from conch.api.conditions import ConditionType, Reason
from conch.api.model import Variant
from conch.api.service import Objective, Scaling
from conch.api.signals import Arrivals, Key, Signals
from conch.decisions import placement
from conch.decisions.fleet import Pool
from conch.decisions.moving import movable
from conch.decisions.placement import Ledger
from conch.decisions.scaling import PoolLoad, Profile, ServiceLoad, load_time, schedule
from conch.reconcile.front_door import Heard
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.store import replicas_entry
from conch.reconcile.views import condition


@dataclass(frozen=True)
class Measurement:
    """What Prometheus said last: the signals, how long ago (seconds), or why there are none."""

    signals: Mapping[Key, Signals]
    age: float = 0.0
    fault: str | None = None
    arrivals: Mapping[tuple[str, str], Arrivals] = field(default_factory=dict)
    """What the front door counted, by namespace and name of services."""

    def at_front_door(self, key: tuple[str, str], *, doors: int) -> Arrivals | None:
        """Return what the front door counted of a service, where all its ``doors`` were asked."""
        found = self.arrivals.get(key)
        if found is None or not 0 < doors <= found.doors:
            return None
        return replace(found, age=found.age + self.age)

    def of(self, key: Key) -> Signals | None:
        """Return the signals of a key as old as they are now."""
        found = self.signals.get(key)
        if found is None:
            return None
        # A millisecond more, so that rounding never makes one scrape look like two.
        oldest = found.age_oldest + self.age + 1e-3
        return replace(found, age=found.age + self.age, age_oldest=oldest)


def load_of(
    facts: ServiceFacts,
    measurement: Measurement,
    ledger: Ledger,
    *,
    now: float,
    load_seconds: Mapping[str, float],
    heard: Heard | None = None,
) -> ServiceLoad:
    """Return the load of a service: its bounds, its replicas by pool, and what they report.

    ``now``: seconds since the epoch. ``load_seconds``: how long a replica takes to start, by
    accelerator. ``heard``: what the front door tells, None where there is none.

    Signals are those of the revision with the traffic. The replicas counted are its own too while
    another takes over, unless that one has more by now: an update is no reason to shrink.
    """
    spec, service = facts.spec, facts.service
    scaling = spec.scaling
    revision = service.revision or service.serving_revision or ""
    variant = facts.snapshots[revision].variant if revision in facts.snapshots else None
    pools = _counted_once(
        facts, [_pool_load(facts, pool, measurement, ledger) for pool in facts.pools]
    )
    seconds = load_time.of_pools(pools, load_seconds)
    peak = schedule.floor(scaling.schedules, now, ahead=seconds)
    by_schedule = peak is not None and peak.replicas > scaling.min_replicas
    wishes = wishes_of(scaling, spec.objective)
    return replace(
        wishes,
        pools=pools,
        minimum=peak.replicas if peak and by_schedule else wishes.minimum,
        fixed=spec.replicas,
        fixed_by=None if spec.replicas is None else written_by(facts.body),
        load_seconds=seconds,
        max_batch=variant.max_batch_size if variant else 1,
        instances=variant.instances if variant else 1,
        queue_delay=parse_duration(variant.max_queue_delay)
        if variant and variant.max_queue_delay
        else 0.0,
        declared=_declared(facts.resolved.variant) if facts.resolved else {},
        unavailable=measurement.fault,
        **_held_requests(facts, heard, measurement),
        kept=_kept(facts, pools) if scaling.paused else None,
        floor_reason=peak.reason if peak and by_schedule else None,
    )


def _held_requests(
    facts: ServiceFacts, heard: Heard | None, measurement: Measurement
) -> dict[str, Any]:
    """Return what the front door makes of a load; it holds requests for services without replicas."""
    if heard is None:
        return {}
    return {
        # Who is asleep can't judge a new revision.
        "may_sleep": facts.spec.scaling.min_replicas == 0 and facts.service.trial is None,
        "held_back": float(heard.waiting(facts.key)),
        "asked_ago": heard.asked(facts.key),
        "deaf": heard.deaf,
        "arrivals": measurement.at_front_door(facts.key, doors=heard.doors),
        "slept": condition(facts.body, ConditionType.SCALING_ACTIVE).get("reason")
        == Reason.SCALED_TO_ZERO,
    }


def wishes_of(scaling: Scaling, objective: Objective) -> ServiceLoad:
    """Return a load that has all that the spec alone says of scaling, and no pools."""
    return ServiceLoad(
        pools=(),
        minimum=scaling.min_replicas,
        maximum=scaling.most,
        standby=scaling.standby,
        window=scaling.seconds("window"),
        scale_down_window=parse_duration(scaling.scale_down_window)
        if scaling.scale_down_window
        else None,
        target_utilization=scaling.target_utilization,
        objective=parse_duration(objective.p99) if objective.p99 else None,
        allowed_late=scaling.aggressiveness.allowed_late,
        up_cooldown=scaling.seconds("scale_up_cooldown"),
        down_cooldown=scaling.seconds("scale_down_cooldown"),
    )


def written_by(body: Mapping[str, Any]) -> str | None:
    """Return who wrote spec.replicas last, how and when, where the API server tells."""
    entry = replicas_entry(dict(body))
    if entry is None or not entry.get("manager"):
        return None
    way = " through /scale" if entry.get("subresource") == "scale" else ""
    when = f" at {entry['time']}" if entry.get("time") else ""
    return f"written by {entry['manager']}{way}{when}"


def _kept(facts: ServiceFacts, pools: tuple[PoolLoad, ...]) -> int:
    """Return how many replicas a paused service keeps: as many as were wanted last."""
    wanted = (facts.body.get("status") or {}).get("desiredReplicas")
    if isinstance(wanted, int):
        return wanted
    return max(facts.spec.scaling.min_replicas, sum(p.held for p in pools))


def _pool_load(
    facts: ServiceFacts, pool: Pool, measurement: Measurement, ledger: Ledger
) -> PoolLoad:
    ready, starting = facts.service.tally(pool.name)
    shape = facts.shapes.get(pool.name)
    return PoolLoad(
        pool=pool.name,
        accelerator=pool.spec.accelerator,
        speed=pool.device_speed,
        ready=ready,
        starting=starting,
        room=placement.room(pool, shape, ledger, most=facts.spec.scaling.most) if shape else 0,
        signals=measurement.of(facts.signal_keys[pool.name]),
    )


def _counted_once(facts: ServiceFacts, pools: Sequence[PoolLoad]) -> tuple[PoolLoad, ...]:
    """Return the pools without replicas that only stay until others answer in their place.

    Who leaves its node and who comes for it are one replica: else, where more is never taken back for
    want of metrics, each move would be another one.
    """
    wanted = (facts.body.get("status") or {}).get("desiredReplicas")
    moves = (p for p in facts.service.pods if p.moves is not None)
    leaving = Counter(p.pool for p in (*movable(facts.service), *moves))
    if not leaving or not isinstance(wanted, int):
        return tuple(pools)
    excess, found = max(0, sum(p.held for p in pools) - wanted), []
    for pool in pools:
        twice = min(excess, leaving[pool.pool], pool.ready)
        excess -= twice
        found.append(replace(pool, ready=pool.ready - twice))
    return tuple(found)


def _declared(variant: Variant) -> dict[str, Profile]:
    return {
        accelerator: Profile(profile.fixed_ms / 1e3, profile.per_item_ms / 1e3)
        for accelerator, profile in variant.profile.items()
    }
