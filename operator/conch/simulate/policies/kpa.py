"""Knative's pod autoscaler (KPA), decision by decision.

After knative.dev/serving v0.49.0, pkg/autoscaler/scaling (``autoscaler.Scale``) and
pkg/autoscaler/aggregation/max; defaults from pkg/autoscaler/config. Unit tests hold it against
what that code itself decided (e2e/golden).
"""

import math
from dataclasses import dataclass, replace

from conch.simulate.policies.base import PolicyMaker, Setting, Tick
from conch.simulate.policies.buckets import Buckets, WeightedBuckets
from conch.simulate.policies.options import Options, PolicyError, on_setting

TICK = 2
"""Seconds between two decisions, and the width of a bucket of the scale-down delay."""
UTILIZATION = 0.7
"""Share of a container's concurrency that is aimed at."""
LEAST_TARGET = 0.01
LONGEST = 3600
"""Seconds that a stable window may have."""


@dataclass(frozen=True)
class KpaSettings:
    """What the ConfigMap ``config-autoscaler`` and a revision's annotations set; times in seconds."""

    target: float = 70.0
    """Concurrent requests for each replica."""
    stable: int = 60
    panic: int = 6
    """The panic window: by default 10 % of the stable one."""
    panic_threshold: float = 2.0
    """Panic where the panic window asks for so many times the ready replicas."""
    max_scale_up: float = 1000.0
    """At most so many times the ready replicas."""
    max_scale_down: float = 2.0
    """At least the ready replicas divided by this."""
    scale_down_delay: int = 0
    """Fewer replicas only once they were enough for so long."""
    activation_scale: int = 0
    """The least number of replicas other than zero; below 2 it says nothing."""
    reachable: bool = True
    """Whether a route leads to the revision."""
    weighted: bool = False
    """Whether newer seconds count for more (``metric-aggregation-algorithm``)."""


@dataclass(frozen=True)
class KpaState:
    """What one decision leaves to the next."""

    panic_since: float | None = None
    """Since when the panic threshold was last exceeded; None out of panic."""
    most: int = 0
    """Replicas below which a panic does not go."""
    delayed: tuple[tuple[int, int], ...] = ()
    """(bucket, replicas) of the scale-down delay: buckets rising, replicas falling."""


@dataclass(frozen=True)
class Observed:
    """Mean concurrent requests in all, over the two windows."""

    stable: float
    panic: float


def begin(ready: int, now: float) -> KpaState:
    """Return the state of an autoscaler that starts at ``now``: in panic, with several replicas."""
    return KpaState(panic_since=now if ready > 1 else None, most=ready)


def decide(
    state: KpaState, settings: KpaSettings, observed: Observed, *, ready: int, now: float
) -> tuple[int, KpaState]:
    """Return the replicas wanted, and the state that the next decision gets."""
    present = max(1, ready)
    stable = math.ceil(observed.stable / settings.target)
    panic = math.ceil(observed.panic / settings.target)
    over = panic / present >= settings.panic_threshold
    since = _panic_since(state, settings, now, over=over)
    wanted = _limited(stable, settings, present)
    most = state.most
    if since is not None:
        wanted = most = max(wanted, _limited(panic, settings, present), most)
    elif state.panic_since is not None:
        most = 0
    delayed = state.delayed
    if settings.reachable and settings.scale_down_delay > 0:
        delayed = _record(delayed, int(now) // TICK, wanted, settings.scale_down_delay)
        wanted = delayed[0][1]
    return wanted, KpaState(since, most, delayed)


def _limited(wanted: int, settings: KpaSettings, present: int) -> int:
    """Return ``wanted`` within the rates, and not between zero and the activation scale."""
    least = math.floor(present / settings.max_scale_down) if settings.reachable else 0
    limited = min(max(wanted, least), math.ceil(settings.max_scale_up * present))
    if settings.activation_scale > 1 and wanted > 0:
        return max(limited, settings.activation_scale)
    return limited


def _panic_since(state: KpaState, settings: KpaSettings, now: float, *, over: bool) -> float | None:
    if over:
        return now
    if state.panic_since is not None and state.panic_since + settings.stable < now:
        return None
    return state.panic_since


def _record(
    window: tuple[tuple[int, int], ...], bucket: int, replicas: int, delay: int
) -> tuple[tuple[int, int], ...]:
    """Return the delay's window with a decision more; its first entry has the most replicas."""
    kept = [entry for entry in window if entry[1] > replicas]
    buckets = math.ceil(delay / TICK)
    kept = [entry for entry in kept if bucket - entry[0] < buckets]
    if kept and kept[-1][0] == bucket:
        replicas = max(replicas, kept.pop()[1])
    return (*kept, (bucket, replicas))


class Kpa:
    """The policy: a sample each second, as its collector scrapes, and a decision each two.

    To and from zero it goes at once. Knative does too where its activator is in the path, as it is
    for services of less than 211 requests' capacity.
    """

    interval = float(TICK)

    def __init__(self, settings: KpaSettings) -> None:
        self.settings = settings
        self._last = -math.inf
        self.restart(0, 0.0, 0)

    def restart(self, ready: int, now: float, wanted: int = 0) -> None:
        """Forget all, as an autoscaler that starts anew while ``ready`` replicas serve."""
        kind = WeightedBuckets if self.settings.weighted else Buckets
        self._stable = kind(self.settings.stable)
        self._panic = kind(self.settings.panic)
        self._state = begin(ready, now)
        self._wanted = wanted

    def replicas(self, tick: Tick) -> int:
        """Return the replicas wanted now; what was wanted before where nothing is known."""
        if tick.now - self._last > 2 * self.interval:
            self.restart(tick.ready, tick.now - tick.interval, tick.ready + tick.starting)
        self._last = tick.now
        for second in range(TICK):
            self.sample(tick.now - TICK + 1 + second, tick.concurrency)
        wanted = self.decide(tick.ready, tick.now)
        self._wanted = self._wanted if wanted is None else wanted
        return self._wanted

    def sample(self, now: float, concurrency: float) -> None:
        """Record the mean concurrency of one second."""
        self._stable.record(now, concurrency)
        self._panic.record(now, concurrency)

    def decide(self, ready: int, now: float) -> int | None:
        """Return the replicas wanted; None without data."""
        if self._stable.empty(now):
            return None
        observed = Observed(self._stable.average(now), self._panic.average(now))
        wanted, self._state = decide(self._state, self.settings, observed, ready=ready, now=now)
        return wanted


TUNED = {"utilization": 0.6, "stable": 120, "scale_down_delay": 300}
"""What somebody who looks after it would set for models that load for long: a lower target, since
help is that far away, and replicas kept for five minutes, since they are dear to get back."""


def maker(options: Options) -> PolicyMaker:
    """Return what ``kpa``, ``kpa:tuned`` or ``kpa:target=0.8,stable=2m`` means."""
    tuned = options.word("preset", ("default", "tuned")) == "tuned"
    base = TUNED if tuned else {"utilization": UTILIZATION, "stable": 60, "scale_down_delay": 0}
    utilization = options.share("target", base["utilization"])
    stable = options.seconds("stable", int(base["stable"]), least=6)
    if stable > LONGEST:
        raise PolicyError(f"{options.policy}: stable is at most an hour")
    percent = options.number("panic", 10.0)
    settings = KpaSettings(
        stable=stable,
        panic=max(1, math.floor(stable * min(percent, 100.0) / 100 + 0.5)),
        panic_threshold=options.number("threshold", 200.0, above=100.0) / 100,
        max_scale_up=options.number("up", 1000.0, above=1.0),
        max_scale_down=options.number("down", 2.0, above=1.0),
        scale_down_delay=options.seconds("delay", int(base["scale_down_delay"])),
        weighted=options.word("aggregation", ("linear", "weighted-exponential")) != "linear",
    )

    def make(setting: Setting) -> Kpa:
        target = max(LEAST_TARGET, utilization * setting.concurrency)
        return Kpa(replace(settings, target=target))

    return on_setting(make)
