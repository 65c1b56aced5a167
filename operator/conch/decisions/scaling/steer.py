"""What people wish of the pace comes over what the load asks for: pauses, cool-downs, floors."""

from dataclasses import replace

from conch.api.conditions import Reason
from conch.decisions.scaling.decide import decide as by_load
from conch.decisions.scaling.fleet import spread
from conch.decisions.scaling.load import ScalingDecision, ServiceLoad
from conch.decisions.scaling.state import Pace, ScalingState

_AWAKE = (
    "minReplicas is 0, but one stays: no front door holds requests for a service without replicas"
)

_DEAF = "minReplicas is 0, but one stays: the front door does not report who waits for a replica"


def decide(load: ServiceLoad, state: ScalingState, now: float) -> ScalingDecision:
    """Return the replicas that the service should have now, why, and the state for the next tick.

    ``now`` is in seconds. Without data the replicas stay what they are, within the bounds.
    """
    decision = by_load(load, state, now)
    if load.kept is not None:
        return _paused(load, decision, load.kept)
    if load.fixed is None:
        decision = _paced(load, decision, state.pace, now)
    return _noted(_told(load, decision), state.pace, now)


def _paused(load: ServiceLoad, decision: ScalingDecision, kept: int) -> ScalingDecision:
    """Return the decision that lets everything stay; what is measured is still learned."""
    count = "1 replica stays" if kept == 1 else f"{kept} replicas stay"
    asks = "spec.replicas" if load.fixed is not None else "the load"
    other = "" if decision.wished == kept else f", {asks} would make it {decision.wished}"
    replicas = min(kept, load.within_reach)
    return replace(
        decision,
        replicas=replicas,
        wished=kept,
        by_pool=spread(replicas, load.pools),
        reason=Reason.PAUSED,
        message=f"spec.scaling.paused: {count}{other}; set it to false to let Conch scale",
        active=False,
        state=replace(decision.state, pace=Pace()),
    )


def _paced(load: ServiceLoad, decision: ScalingDecision, pace: Pace, now: float) -> ScalingDecision:
    """Return the decision, held back where the last step that way is too short ago.

    The bounds are not held back.
    """
    before = pace.replicas
    if before is None or before == decision.replicas:
        return decision
    if decision.replicas > before:
        last, cooldown, way = pace.raised_at, load.up_cooldown, "scaleUpCooldown"
        replicas = max(before, min(max(load.bounded(0), load.held), decision.replicas))
    else:
        last, cooldown, way = pace.lowered_at, load.down_cooldown, "scaleDownCooldown"
        replicas = min(before, load.bounded(before), load.within_reach)
    left = 0.0 if last is None else last + cooldown - now
    if not 0.0 < left <= cooldown or replicas == decision.replicas:
        return decision
    return replace(
        decision,
        replicas=replicas,
        wished=replicas,
        by_pool=spread(replicas, load.pools),
        message=f"{decision.message}; {replicas} until {way} of {cooldown:g} s is over",
        cooldown_left=left,
    )


def _told(load: ServiceLoad, decision: ScalingDecision) -> ScalingDecision:
    """Return the decision with what else its number comes from: a writer, a schedule, no door."""
    parts = [decision.message]
    if load.fixed is not None and load.fixed_by is not None:
        parts.append(load.fixed_by)
    if load.floor_reason is not None and decision.wished == load.minimum:
        parts.append(load.floor_reason)
    awake = load.minimum == 0 and load.fixed is None and not load.may_sleep
    if awake and decision.wished == load.bounded(0):
        parts.append(_AWAKE)
    if _deaf(load, decision):
        parts.append(_DEAF)
    return decision if len(parts) == 1 else replace(decision, message="; ".join(parts))


def _deaf(load: ServiceLoad, decision: ScalingDecision) -> bool:
    """Tell whether a service that answers is kept from sleep by whoever does not tell of requests."""
    may = load.may_sleep and load.minimum == 0 and load.fixed is None
    return may and load.deaf is not None and load.held > 0 and decision.wished == load.bounded(1)


def _noted(decision: ScalingDecision, pace: Pace, now: float) -> ScalingDecision:
    """Return the decision with what it changed remembered."""
    before = pace.replicas
    if before == decision.replicas:
        return decision
    noted = replace(pace, replicas=decision.replicas)
    if before is not None and decision.replicas > before:
        noted = replace(noted, raised_at=now)
    elif before is not None:
        noted = replace(noted, lowered_at=now)
    return replace(decision, state=replace(decision.state, pace=noted))
