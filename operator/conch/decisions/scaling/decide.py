"""From what is measured of a service to how many replicas it should have."""

import math
from dataclasses import dataclass, field, replace

from conch.api.conditions import Reason
from conch.decisions.scaling import explain
from conch.decisions.scaling.demand import (
    BUSY,
    LATE,
    PENDING,
    QUEUE,
    SETTLE,
    Demand,
    pressed,
)
from conch.decisions.scaling.fleet import longest_wait, prompt_rate, rates, replicas_for, spread
from conch.decisions.scaling.gaps import may_sleep
from conch.decisions.scaling.load import ScalingDecision, ServiceLoad
from conch.decisions.scaling.measure import Measured, View, stale_after, view
from conch.decisions.scaling.observe import observed
from conch.decisions.scaling.pressure import helps
from conch.decisions.scaling.season import expected
from conch.decisions.scaling.sleep import after, asleep, called, lasting, missed, roused
from conch.decisions.scaling.state import ScalingState
from conch.decisions.scaling.window import full, highest, watched, wished

FEWEST_SAMPLES = 3
"""Of less load, before anything goes down."""
LONGEST_DOWN = 300.0
"""Seconds of the window on the way down, at most, where the spec does not say."""
RESTLESS = 0.3
"""Margin and chance in a window together, as a share of the load and times beta, from which the
window on the way down is a whole one."""
CALM = 0.05
"""Of that window, that is always kept."""
STEP_DOWN = 0.1
"""Of the replicas, that may go at a time; one always may."""
STEP_APART = 0.5
"""Of the window on the way down, between two steps down at most: the less the load surprises, the
sooner (by the margin's share)."""
UNEVEN = (1.0, 8.0)
"""Bounds of the index of dispersion in the queueing formula: that of longer times is the margin's
matter."""
CHANCE = 5.0
"""Times the share that may be late, that the queueing formula lets wait: whole replicas and what is
held for a while keep most of them from it, and beta sees to the rest."""
_TOLD = (Reason.SCALED_TO_ZERO, Reason.SCALING, Reason.LIMITED_BY_CAPACITY)
"""Reasons that stand without metrics: whoever holds requests told."""
HELD = 0.5
"""Of a load time, that a replica stays at least: to come back it takes a whole one."""


@dataclass(frozen=True, slots=True)
class _Need:
    """Replicas that the load asks for, and those that stand by, whatever bounds and pools say."""

    replicas: int
    demand: Demand = field(default_factory=Demand)
    rates: explain.Rates = field(default_factory=dict)
    capacity: float = 0.0
    """Items a second that the replicas are to be able to serve."""
    reactive: bool = False
    """One more than counted, on signs that the replicas are too few."""
    waking: bool = False
    """Somebody asks, or may ask, without a replica that could answer."""


def decide(load: ServiceLoad, state: ScalingState, now: float) -> ScalingDecision:
    """Return the replicas that the service should have now, why, and the state for the next tick.

    ``now`` is in seconds. Without data the replicas stay what they are, within the bounds.
    """
    seen, state = view(load), roused(load, state, now)
    if seen.measured is not None:
        state = observed(load, state, seen.measured, seen.usable, now)
    if load.fixed is not None:
        return _fixed(load, state, load.fixed)
    least = _least(load, state, now)
    if seen.measured is None:
        return _decision(load, state, least, seen, now)
    need = _need(load, state, seen.measured, now)
    need = replace(need, replicas=max(need.replicas, least.replicas), waking=least.waking)
    return _decision(load, _remembered(load, state, need, seen, now), need, seen, now)


def _fixed(load: ServiceLoad, state: ScalingState, fixed: int) -> ScalingDecision:
    wished = load.within(fixed) if fixed > 0 else 0
    replicas = min(wished, load.within_reach)
    reason = Reason.LIMITED_BY_CAPACITY if replicas < wished else Reason.FIXED_REPLICAS
    return ScalingDecision(
        replicas=replicas,
        wished=wished,
        by_pool=spread(replicas, load.pools),
        reason=reason,
        message=explain.fixed(fixed, wished, replicas),
        active=False,
        state=state,
    )


def _least(load: ServiceLoad, state: ScalingState, now: float) -> _Need:
    """Return what whoever holds requests says that there should be, whatever metrics say.

    What it holds is a backlog; while replicas answer, it is in their metrics.
    """
    if not called(load, state, now, window=down_window(load, state, now)):
        lost = missed(load, state)
        return _Need(1 if lost else 0, waking=lost and asleep(load, state))
    known = rates(load, state)
    held_back = 0.0 if any(p.ready for p in load.pools) else load.held_back
    if not known or not held_back:
        return _Need(1, waking=True)
    work = held_back / max(SETTLE, _load_seconds(load)) / load.target_utilization
    counted = _with_standby(load, max(1, replicas_for(work, load.pools, known)))
    return _Need(counted, Demand(work_off=work), known, waking=True)


def _need(load: ServiceLoad, state: ScalingState, measured: Measured, now: float) -> _Need:
    asked = state.asked
    known = rates(load, state)
    if known:
        capacity = _capacity(load, state, asked, known, now)
        counted = replicas_for(capacity, load.pools, known)
        need = _Need(_with_standby(load, counted), asked, known, capacity)
    else:
        need = _unknown(load, state, measured, now)
    if need.replicas <= load.held and _too_few(load, state, measured, now, known=bool(known)):
        # The reactive floor: no profile yet, or one that promises too much.
        return replace(need, replicas=load.held + 1, reactive=True)
    return need


def _with_standby(load: ServiceLoad, counted: int) -> int:
    return counted + load.standby if counted > 0 else 0


def _capacity(
    load: ServiceLoad, state: ScalingState, asked: Demand, known: explain.Rates, time: float
) -> float:
    """Return the items a second to be able to serve: for now, for later, and then without queues."""
    now = asked.total / load.target_utilization
    later = max(state.margin.above(asked.mean), expected(state.season, time, _load_seconds(load)))
    prompt = prompt_rate(
        load,
        known,
        max(later, asked.recent),
        late=min(1.0, CHANCE * load.allowed_late),
        wait=longest_wait(load, state),
        variation=min(max(state.margin.dispersion, UNEVEN[0]), UNEVEN[1]),
    )
    return max(now, later / load.target_utilization, prompt)


def _unknown(load: ServiceLoad, state: ScalingState, measured: Measured, now: float) -> _Need:
    """Return what is in use, before a profile is known; who stands by for it comes one by one."""
    counted = _with_standby(load, _by_use(load, measured))
    if counted > load.held and _due(load, state, now):
        return _Need(load.held + 1, state.asked, reactive=True)
    return _Need(min(counted, load.held), state.asked)


def _by_use(load: ServiceLoad, measured: Measured) -> int:
    """Return how many of the held replicas are in use, before a profile is known.

    As HPA's ratio of use to target (podautoscaler/replica_calculator.go), downwards only.
    """
    planned = max(1, load.instances) * load.target_utilization
    return min(load.held, math.ceil(min(measured.busy / planned, load.held)))


def _too_few(
    load: ServiceLoad, state: ScalingState, measured: Measured, now: float, *, known: bool
) -> bool:
    """Return whether one replica more is asked for on signs alone."""
    if not helps(load, measured):
        return False
    if known:
        return pressed(state.samples) and _rested(load, state, now)
    return pressed(state.samples, alone=BUSY | QUEUE | PENDING | LATE) and _due(load, state, now)


def _rested(load: ServiceLoad, state: ScalingState, now: float) -> bool:
    """Return whether what was counted has had its time to start and to work off the queue."""
    since = now if state.started_at is None else state.started_at
    return not load.starting and now - since >= max(SETTLE, _load_seconds(load))


def _due(load: ServiceLoad, state: ScalingState, now: float) -> bool:
    """Return whether an unknown model may grow: at most one replica a load time.

    A replica that does not start holds this back for two load times, not for ever.
    """
    if state.grown_at is None or state.grown_at > now:
        return load.starting == 0
    return now - state.grown_at >= _load_seconds(load) * (2 if load.starting else 1)


def _remembered(
    load: ServiceLoad, state: ScalingState, need: _Need, seen: View, now: float
) -> ScalingState:
    """Return the state after ``need``; only what can be had becomes a wish to stand by."""
    wish = min(load.bounded(need.replicas), load.within_reach)
    grown_at = now if need.reactive and wish > load.held else state.grown_at
    window, length = state.window, down_window(load, state, now)
    if _sound(state) or wish >= load.held:
        window = wished(window, now, wish, length=length)
    if seen.complete:
        # A blind time that outlasts the wishes from before it must not count as watched.
        window = watched(window, now, gap=min(stale_after(load), length / 2))
    starts = load.starting or state.started_at is None or state.started_at > now
    return replace(
        state, window=window, grown_at=grown_at, started_at=now if starts else state.started_at
    )


def _sound(state: ScalingState) -> bool:
    """Return whether a sample has another beside it: one alone says nothing of less load."""
    return len(state.samples) > 1


def _kept(load: ServiceLoad, state: ScalingState, seen: View, now: float) -> int:
    """Return how many replicas the past and the gaps in what is known tell to keep."""
    length = down_window(load, state, now)
    past = highest(state.window, now, length)
    judged = seen.complete and _sound(state) and full(state.window, now, length)
    return past if judged else max(past, lasting(load, state))


def _step(load: ServiceLoad, state: ScalingState, now: float) -> int:
    """Return how far down the replicas may go now, from what is held or was asked for last."""
    pace = state.pace
    there = load.held if pace.replicas is None else min(load.held, pace.replicas)
    apart = min(STEP_APART, state.margin.share) * (load.scale_down_window or LONGEST_DOWN)
    if pace.lowered_at is not None and 0.0 <= now - pace.lowered_at < apart:
        return there
    lower = there - max(1, int(STEP_DOWN * there))
    return lower if lower > load.standby else 0  # who stands by does so for one that works


def _decision(
    load: ServiceLoad, state: ScalingState, need: _Need, seen: View, now: float
) -> ScalingDecision:
    wish = max(need.replicas, _kept(load, state, seen, now))
    wish = load.bounded(max(wish, _step(load, state, now)))
    if wish == 0 < lasting(load, state) and not _sleepy(load, state, now):
        wish = load.bounded(1)
    replicas = min(wish, load.within_reach)
    reason = _reason(load, state, need, seen, now=now, wish=wish)
    facts = explain.Facts(
        reason=reason,
        replicas=replicas,
        wished=max(wish, need.replicas),
        maximum=load.maximum,
        standby=load.standby,
        demand=need.demand.total,
        rates=need.rates,
        margin=state.margin.share,
        ready=seen.ready,
        missing=seen.missing,
        fault=seen.absurd or load.unavailable,
        waking=need.waking,
        deaf=load.deaf is not None,
    )
    said = explain.say(state.said, facts)
    state = after(state, wish, now) if load.may_sleep else state
    return ScalingDecision(
        replicas=replicas,
        wished=wish,
        by_pool=spread(replicas, load.pools),
        reason=reason,
        message=said.message,
        active=True if seen.measured is not None or reason in _TOLD else None,
        state=state if said is state.said else replace(state, said=said),
        capacity=None if seen.measured is None else need.capacity,
    )


def _sleepy(load: ServiceLoad, state: ScalingState, now: float) -> bool:
    """Return whether the last replica may go: the next request is far away, and would be heard."""
    return load.deaf is None and may_sleep(state.gaps, now, _load_seconds(load))


def _reason(
    load: ServiceLoad, state: ScalingState, need: _Need, seen: View, *, now: float, wish: int
) -> Reason:
    if wish == 0:
        return Reason.SCALED_TO_ZERO
    if seen.absurd is not None:
        return Reason.ABSURD_METRICS
    waking = need.waking and not seen.ready
    if seen.measured is None and not waking:
        return Reason.NO_METRICS
    if load.within_reach < wish:
        return Reason.LIMITED_BY_CAPACITY
    return Reason.SCALING if waking else _by_numbers(load, state, need, seen, now)


def _by_numbers(
    load: ServiceLoad, state: ScalingState, need: _Need, seen: View, now: float
) -> Reason:
    if need.replicas > load.bounded(need.replicas):
        return Reason.AT_MAXIMUM
    return (
        Reason.SCALING
        if seen.complete or not _long_blind(load, state, now)
        else Reason.PARTIAL_METRICS
    )


def _long_blind(load: ServiceLoad, state: ScalingState, now: float) -> bool:
    """Return whether data have been incomplete for longer than a new replica takes to show up."""
    since = state.window.seen
    return since is None or now - since > stale_after(load)


def _load_seconds(load: ServiceLoad) -> float:
    return max(1.0, load.load_seconds)


def down_window(load: ServiceLoad, state: ScalingState, now: float) -> float:
    """Return over how many seconds less must be wished for before anything goes down.

    Where the spec does not say, a load that leaps, or that made requests late, gets ``LONGEST_DOWN``,
    a calm one a part of it. Not over fewer than three samples, so that what one odd sample says does
    not outlast it, however late the next one comes.
    """
    times = [s.time for s in state.samples[-2:]] or [now]
    apart = max(now - times[-1], times[-1] - times[0])
    load_seconds = _load_seconds(load)
    if load.scale_down_window is None:
        length = max(_restless(load, state) * LONGEST_DOWN, HELD * load_seconds)
    else:
        length = max(load.scale_down_window, 2 * load_seconds)
    return max(length, FEWEST_SAMPLES * apart)


def _restless(load: ServiceLoad, state: ScalingState) -> float:
    """Return how restless the load is: from ``CALM`` to 1, as what nobody has watched yet is."""
    if state.margin.watched < LONGEST_DOWN:
        return 1.0
    items = max(1.0, state.asked.mean * load.window)
    chance = math.sqrt(max(1.0, state.margin.dispersion) / items)
    share = state.margin.beta * (state.margin.share + chance) / RESTLESS
    return min(1.0, max(CALM, share))
