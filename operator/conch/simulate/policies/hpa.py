"""Kubernetes' HorizontalPodAutoscaler (HPA), sync by sync.

After k8s.io/kubernetes v1.34.4, pkg/controller/podautoscaler: the replica calculator for metrics of
pods and external metrics, stabilization, and ``spec.behavior``. Values are in thousandths, since the
controller computes with whole ones. Unit tests hold it against what the controller itself decided
(e2e/golden).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from conch.simulate.policies.base import PolicyMaker, Setting, Tick
from conch.simulate.policies.options import Options, PolicyError, on_setting

SYNC = 15.0
"""Seconds between two syncs (``--horizontal-pod-autoscaler-sync-period``)."""


class Select(StrEnum):
    """Which of several scaling policies counts."""

    MOST = "Max"
    LEAST = "Min"
    NONE = "Disabled"


@dataclass(frozen=True)
class ScalingPolicy:
    """How much the replicas may change within a period."""

    percent: bool
    """Whether ``value`` is a share of the replicas, in percent; else it is replicas."""
    value: int
    period: int
    """Seconds."""


@dataclass(frozen=True)
class ScalingRules:
    """One direction of ``spec.behavior``."""

    window: int
    """Stabilization, in seconds."""
    policies: tuple[ScalingPolicy, ...]
    select: Select = Select.MOST

    @property
    def longest(self) -> int:
        """The longest period, in seconds."""
        return max((policy.period for policy in self.policies), default=0)


@dataclass(frozen=True)
class Behavior:
    """``spec.behavior``, filled in."""

    up: ScalingRules
    down: ScalingRules


@dataclass(frozen=True)
class HpaSettings:
    """An HPA's spec with one metric, and the controller's flags."""

    target: int
    """``averageValue`` for each pod, in thousandths."""
    minimum: int = 1
    maximum: int = 1
    tolerance: float = 0.1
    """Share by which usage may miss the target before anything changes."""
    window: int = 300
    """Seconds of downscale stabilization without a ``spec.behavior``."""
    behavior: Behavior | None = None


@dataclass(frozen=True)
class Pod:
    """What the calculator looks at in a pod."""

    usage: int | None
    """In thousandths; None without a sample."""
    pending: bool = False
    """Whether its phase is Pending."""
    gone: bool = False
    """Whether it failed or is being deleted."""


@dataclass(frozen=True)
class Change:
    """A change of the replicas that the limits remember."""

    at: float
    replicas: int
    """How many more or fewer."""
    outdated: bool = False
    """Whether a later one may take its place."""


@dataclass(frozen=True)
class HpaState:
    """What one sync leaves to the next."""

    recommended: tuple[tuple[float, int], ...] = ()
    """(time, replicas) before stabilization."""
    ups: tuple[Change, ...] = ()
    downs: tuple[Change, ...] = ()


def pods_replicas(
    pods: Sequence[Pod], *, current: int, target: int, tolerance: float
) -> int | None:
    """Return the replicas that a metric of pods asks for; None where no pod has a sample.

    A pod without a sample counts as at its target on the way down and as idle on the way up; a
    pending one counts on the way up only, as idle.
    """
    samples = [p.usage for p in pods if p.usage is not None and not p.gone and not p.pending]
    pending = sum(p.pending and not p.gone for p in pods)
    missing = sum(p.usage is None and not p.gone and not p.pending for p in pods)
    if not samples:
        return None
    ratio = _usage_ratio(samples, target)
    waits = pending > 0 and ratio > 1.0
    if not waits and not missing:
        return current if _within(ratio, tolerance) else math.ceil(ratio * len(samples))
    if ratio != 1.0:
        samples += [target if ratio < 1.0 else 0] * missing
    if waits:
        samples += [0] * pending
    corrected = _usage_ratio(samples, target)
    turned = (ratio < 1.0 < corrected) or (corrected < 1.0 < ratio)
    if turned or _within(corrected, tolerance):
        return current
    wanted = math.ceil(corrected * len(samples))
    if (corrected < 1.0 and wanted > current) or (corrected > 1.0 and wanted < current):
        return current
    return wanted


def external_replicas(usage: int, *, exist: int, target: int, tolerance: float) -> int:
    """Return the replicas for an external metric with an ``averageValue``, one value for all."""
    if exist and _within(usage / (target * exist), tolerance):
        return exist
    return math.ceil(usage / target)


def sync(
    state: HpaState,
    settings: HpaSettings,
    *,
    current: int,
    recommended: int | None,
    now: float,
) -> tuple[int, HpaState]:
    """Return the replicas from now on, and the state that the next sync gets.

    ``current`` replicas were asked for before, ``recommended`` are what the metric asks for; None
    where it could not be had.
    """
    if not state.recommended:
        state = HpaState(((now, current),), state.ups, state.downs)
    if current == 0 and settings.minimum != 0:
        return 0, state
    if current > settings.maximum:
        wanted = settings.maximum
    elif current < settings.minimum:
        wanted = settings.minimum
    elif recommended is None:
        return current, state
    elif settings.behavior is None:
        wanted, state = _plain(state, settings, current, recommended, now)
    else:
        behavior = settings.behavior
        wanted, state = _behaved(
            state, settings, behavior, current=current, recommended=recommended, now=now
        )
    if settings.behavior is not None and wanted != current:
        state = _remember(state, settings.behavior, current, wanted, now)
    return wanted, state


def _within(ratio: float, tolerance: float) -> bool:
    return 1.0 - tolerance <= ratio <= 1.0 + tolerance


def _usage_ratio(samples: Sequence[int], target: int) -> float:
    return (sum(samples) // len(samples)) / target


def _plain(
    state: HpaState, settings: HpaSettings, current: int, recommended: int, now: float
) -> tuple[int, HpaState]:
    """Stabilize downwards and double at most, as without a ``spec.behavior``."""
    recent = tuple(entry for entry in state.recommended if entry[0] >= now - settings.window)
    wanted = max(recommended, *(replicas for _, replicas in recent), 0)
    most = min(settings.maximum, max(2 * current, 4))
    state = HpaState((*recent, (now, recommended)), state.ups, state.downs)
    return max(settings.minimum, min(wanted, most)), state


def _behaved(
    state: HpaState,
    settings: HpaSettings,
    behavior: Behavior,
    *,
    current: int,
    recommended: int,
    now: float,
) -> tuple[int, HpaState]:
    up, down = behavior.up, behavior.down
    least = [r for at, r in state.recommended if at > now - up.window]
    most = [r for at, r in state.recommended if at > now - down.window]
    wanted = min(max(current, min([recommended, *least])), max([recommended, *most]))
    cutoff = now - max(up.window, down.window)
    recent = tuple(entry for entry in state.recommended if entry[0] >= cutoff)
    state = HpaState((*recent, (now, recommended)), state.ups, state.downs)
    if wanted > current:
        limit = max(current, _limit(state, up, current, now, sign=1))
        return min(wanted, settings.maximum, limit), state
    if wanted < current:
        limit = min(current, _limit(state, down, current, now, sign=-1))
        return max(wanted, settings.minimum, limit), state
    return wanted, state


def _limit(state: HpaState, rules: ScalingRules, current: int, now: float, *, sign: int) -> int:
    """Return how far the rules let the replicas go, up (``sign`` 1) or down (-1)."""
    if rules.select is Select.NONE:
        return current
    proposed = []
    for policy in rules.policies:
        since = now - policy.period
        begun = current - _changed(state.ups, since) + _changed(state.downs, since)
        if not policy.percent:
            proposed.append(begun + sign * policy.value)
        elif sign > 0:
            proposed.append(math.ceil(begun * (1 + policy.value / 100)))
        else:
            proposed.append(int(begun * (1 - policy.value / 100)))
    widest = (rules.select is Select.MOST) == (sign > 0)
    return max(proposed) if widest else min(proposed)


def _changed(changes: Sequence[Change], since: float) -> int:
    return sum(change.replicas for change in changes if change.at > since)


def _remember(
    state: HpaState, behavior: Behavior, current: int, wanted: int, now: float
) -> HpaState:
    if wanted > current:
        ups = _added(state.ups, behavior.up, Change(now, wanted - current))
        return HpaState(state.recommended, ups, state.downs)
    downs = _added(state.downs, behavior.down, Change(now, current - wanted))
    return HpaState(state.recommended, state.ups, downs)


def _added(changes: Sequence[Change], rules: ScalingRules, change: Change) -> tuple[Change, ...]:
    """Return the changes with one more, in the place of the last that is outdated.

    Outdated is what the rules of its own direction no longer need; those of the other direction may
    look further back, and then see less than there was. So does Kubernetes.
    """
    cutoff = change.at - rules.longest
    marked = [Change(c.at, c.replicas, c.outdated or c.at < cutoff) for c in changes]
    places = [index for index, c in enumerate(marked) if c.outdated]
    if places:
        marked[places[-1]] = change
        return tuple(marked)
    return (*marked, change)


class Hpa:
    """The policy: an HPA on the busy share of the pods' instances, as a metric of pods.

    So GPU utilization (DCGM) reaches an HPA through an adapter for custom metrics. Here it is fresh
    at each sync: the mean since the one before. A replica that starts is a pod that is Pending: its
    init container fetches the model.
    """

    interval = SYNC

    def __init__(self, settings: HpaSettings) -> None:
        self.settings = settings
        self._state = HpaState()
        self._asked = 0
        self._last = -math.inf

    def replicas(self, tick: Tick) -> int:
        """Return the replicas asked for from now on."""
        if tick.now - self._last > 2 * self.interval:  # begun, or begun again
            self._state, self._asked = HpaState(), tick.ready + tick.starting
        self._last = tick.now
        self._asked, self._state = sync(
            self._state,
            self.settings,
            current=self._asked,
            recommended=self.recommend(self.settings, tick, self._asked),
            now=tick.now,
        )
        return self._asked

    def recommend(self, settings: HpaSettings, tick: Tick, current: int) -> int | None:
        """Return the replicas that the metric asks for."""
        usage = int(1000 * tick.utilization)
        pods = [Pod(usage)] * tick.ready + [Pod(None, pending=True)] * tick.starting
        return pods_replicas(
            pods, current=current, target=settings.target, tolerance=settings.tolerance
        )


def maker(options: Options) -> PolicyMaker:
    """Return what ``hpa:0.5`` means: half of the instances' time busy."""
    if not options.has("target"):
        raise PolicyError(f"{options.policy}: at which busy share? Write for example hpa:0.5")
    target = round(1000 * options.share("target", 1.0))
    if target < 1:
        raise PolicyError(f"{options.policy}: less than a thousandth of the time is too little")
    window = options.seconds("stabilization", 300)
    tolerance = options.number("tolerance", 0.1)
    settings = HpaSettings(target, tolerance=tolerance, window=window)

    def make(setting: Setting) -> Hpa:
        least = max(1, setting.minimum)
        return Hpa(replace(settings, minimum=least, maximum=max(least, setting.maximum)))

    return on_setting(make)
