"""One decision with all that it was made from, for ``explain`` and metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conch.decisions.scaling.capacity import Profile
from conch.decisions.scaling.decide import down_window
from conch.decisions.scaling.fleet import longest_wait, rates
from conch.decisions.scaling.gaps import idle
from conch.decisions.scaling.load import PoolLoad, ScalingDecision, ServiceLoad
from conch.decisions.scaling.margin import late_share
from conch.decisions.scaling.recover import shown
from conch.decisions.scaling.season import expected


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, what it was made from, and when (s)."""

    load: ServiceLoad
    decision: ScalingDecision
    at: float


def figures(of: Decided) -> dict[str, float]:
    """Return all figures of a decision, those that follow from it too."""
    wishes = {
        "minimum": of.load.minimum,
        "maximum": of.load.maximum,
        "load_seconds": of.load.load_seconds,
        "allowed_late": of.load.allowed_late,
        "planned_share": of.load.target_utilization,
    }
    learned = shown(of.decision.state.margin)
    return {**wishes, **_window(of), **_service(of), **learned, **_counted(of)}


def _counted(of: Decided) -> dict[str, float]:
    """Return what the number was counted from; rates in items a second."""
    decision, state = of.decision, of.decision.state
    found = {"cooldown_left_s": decision.cooldown_left} if decision.cooldown_left else {}
    if decision.capacity is None:
        return found
    asked = state.asked
    return found | {
        "demand": asked.total,
        "mean": asked.mean,
        "recent": asked.recent,
        "backlog": state.samples[-1].backlog if state.samples else 0.0,
        "work_off": asked.work_off,
        "margin": state.margin.share,
        "season": expected(state.season, of.at, max(1.0, of.load.load_seconds)),
        "skill": state.season.skill,
        "capacity": decision.capacity,
    }


def _service(of: Decided) -> dict[str, float]:
    """Return what a replica serves on its slowest accelerator, and what is late by the mean wait."""
    found = {}
    served = rates(of.load, of.decision.state)
    if served:
        found["mu"] = min(served.values())
    signals = [p.signals for p in of.load.pools if p.signals is not None]
    asked = sum(s.requests for s in signals)
    if served and asked > 0:
        wait = sum(s.queue_seconds * s.requests for s in signals) / asked
        found["late"] = late_share(longest_wait(of.load, of.decision.state), wait)
    return found


def _window(of: Decided) -> dict[str, float]:
    """Return how long more than what is wished for now stays for what was wished before."""
    wishes = of.decision.state.window.wishes
    if not wishes or wishes[-1][1] >= of.decision.wished:
        return {}
    length = down_window(of.load, of.decision.state, of.at)
    held = [time + length - of.at for time, wish in wishes if wish >= of.decision.wished]
    return {"window_left_s": max(held)} if held and max(held) > 0 else {}


def account(of: Decided, age: float) -> dict[str, Any]:
    """Return the decision and its reasons as JSON values; ``age``: seconds since it was made."""
    load, decision = of.load, of.decision
    served = rates(load, decision.state)
    return {
        "ageSeconds": age,
        "replicas": decision.replicas,
        "wished": decision.wished,
        "held": load.held,
        "reason": str(decision.reason),
        "message": decision.message,
        "figures": figures(of),
        "bounds": {"minimum": load.minimum, "maximum": load.maximum, "fixed": load.fixed},
        "standby": load.standby,
        "floor": load.floor_reason,
        "writer": load.fixed_by,
        "objectiveSeconds": load.objective,
        "windowSeconds": load.window,
        "scaleDownWindowSeconds": down_window(load, decision.state, of.at),
        "loadSeconds": load.load_seconds,
        "allowedLate": load.allowed_late,
        "plannedShare": load.target_utilization,
        "frontDoor": _front_door(of),
        "pools": [_pool(p, load, decision, served) for p in load.pools],
    }


def _front_door(of: Decided) -> dict[str, Any] | None:
    """Return what a service that may sleep is told by whoever holds its requests."""
    load = of.load
    if not load.may_sleep:
        return None
    return {
        "waiting": load.held_back,
        "askedSecondsAgo": load.asked_ago,
        "silentSeconds": load.deaf,
        "idleSeconds": idle(of.decision.state.gaps, of.at),
    }


def _pool(
    pool: PoolLoad, load: ServiceLoad, decision: ScalingDecision, served: Mapping[str, float]
) -> dict[str, Any]:
    declared = load.declared.get(pool.accelerator)
    fit = decision.state.fits.get(pool.accelerator)
    signals = pool.signals
    busy = signals and signals.pods_scraped * max(1, load.instances)
    return {
        "pool": pool.pool,
        "accelerator": pool.accelerator,
        "ready": pool.ready,
        "starting": pool.starting,
        "room": pool.room,
        "itemsPerSecond": served.get(pool.accelerator),
        "declared": _profile(declared),
        "measured": _profile(fit.profile if fit else None),
        "served": signals.inferences if signals else None,
        "pending": signals.pending if signals else None,
        "queueSeconds": signals.queue_seconds if signals else None,
        "p99Seconds": signals.p99 if signals else None,
        "busyShare": signals.busy / busy if signals and busy else None,
        "metricsAgeSeconds": signals.age if signals else None,
    }


def _profile(profile: Profile | None) -> dict[str, float] | None:
    if profile is None:
        return None
    return {"fixedMs": profile.fixed * 1e3, "perItemMs": profile.per_item * 1e3}
