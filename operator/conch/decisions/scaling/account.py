"""One decision with all that it was made from, for ``kubectl conch explain``."""

from collections.abc import Mapping
from typing import Any

from conch.decisions.scaling.capacity import Profile
from conch.decisions.scaling.fleet import rates
from conch.decisions.scaling.load import PoolLoad, ScalingDecision, ServiceLoad


def account(load: ServiceLoad, decision: ScalingDecision, age: float) -> dict[str, Any]:
    """Return the decision and its reasons as JSON values; ``age``: seconds since it was made."""
    served = rates(load, decision.state)
    return {
        "ageSeconds": age,
        "replicas": decision.replicas,
        "wished": decision.wished,
        "held": load.held,
        "reason": str(decision.reason),
        "message": decision.message,
        "figures": dict(decision.figures),
        "bounds": {"minimum": load.minimum, "maximum": load.maximum, "fixed": load.fixed},
        "floor": load.floor_reason,
        "writer": load.fixed_by,
        "objectiveSeconds": load.objective,
        "windowSeconds": load.window,
        "scaleDownWindowSeconds": load.scale_down_window,
        "loadSeconds": load.load_seconds,
        "allowedLate": load.allowed_late,
        "plannedShare": load.target_utilization,
        "pools": [_pool(p, load, decision, served) for p in load.pools],
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
