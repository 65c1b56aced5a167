"""What a scaling decision is made from, and what it says."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from conch.api.conditions import Reason
from conch.api.signals import Arrivals, Signals
from conch.decisions.scaling.capacity import Profile
from conch.decisions.scaling.state import ScalingState

__all__ = ["PoolLoad", "Profile", "ScalingDecision", "ServiceLoad"]


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """The service's replicas in one pool, and what they report."""

    pool: str
    accelerator: str
    ready: int
    starting: int
    """Replicas that exist and do not serve yet, pending ones included; none that drain."""
    room: int
    """How many more replicas fit into the pool now."""
    signals: Signals | None
    """None: nothing is known of this pool's replicas."""
    speed: float = 1.0
    """Of the accelerator, relative to the other pools' (GPUPool.spec.relativeSpeed)."""

    @property
    def held(self) -> int:
        """Replicas that serve or will."""
        return self.ready + self.starting


@dataclass(frozen=True, slots=True)
class ServiceLoad:
    """One service as a tick finds it; all times in seconds. Pools stand in order of preference."""

    pools: tuple[PoolLoad, ...]
    minimum: int = 1
    maximum: int = 1
    fixed: int | None = None
    """spec.replicas: exactly this many within the bounds; 0 stops the service."""
    fixed_by: str | None = None
    """Who wrote spec.replicas and when, in words, where that is known."""
    window: float = 60.0
    """Over which arrivals are averaged."""
    scale_down_window: float | None = None
    """Over which less must be wished for before anything goes down; None leaves it to Conch."""
    target_utilization: float = 0.95
    """Share of a replica that is planned for at most; the margin for bursts comes on top."""
    objective: float | None = None
    """The p99 that callers are promised."""
    load_seconds: float = 42.0
    """L: from created to ready. The default is the p90 of real fleets (docs/designs)."""
    max_batch: int = 1
    """Items a run can hold; 0 and 1 both mean no batching."""
    instances: int = 1
    """Of the model in each replica."""
    queue_delay: float = 0.0
    """That the batcher waits on purpose (maxQueueDelay)."""
    declared: Mapping[str, Profile] = field(default_factory=dict)
    """By accelerator, from the spec."""
    unavailable: str | None = None
    """Why there are no metrics at all, in words, where the caller knows."""
    may_sleep: bool = False
    """Something holds requests for a service without replicas, so that it may have none."""
    held_back: float = 0.0
    """Requests that whoever holds them has for a service without replicas."""
    asked_ago: float | None = None
    """Since a request last had to wait because no replica answers; None: not that anyone knows."""
    deaf: float | None = None
    """For how long whoever holds requests has not told of all of them; None: it does."""
    arrivals: Arrivals | None = None
    """What the front door counted; None where there is none, or where it was not asked in full."""
    slept: bool = False
    """The service's status says that it was put to sleep."""
    allowed_late: float = 1e-3
    """Share of the requests that may be late (spec.scaling.aggressiveness)."""
    standby: int = 0
    """Replicas beyond what the load asks for, of a service that has any."""
    kept: int | None = None
    """spec.scaling.paused: exactly this many, whatever the load."""
    floor_reason: str | None = None
    """Where ``minimum`` comes from, in words, where it is a schedule's."""
    up_cooldown: float = 0.0
    """Least time between two steps up."""
    down_cooldown: float = 0.0
    """Least time between two steps down."""

    @property
    def held(self) -> int:
        """Replicas that serve or will."""
        return sum([p.held for p in self.pools])

    @property
    def starting(self) -> int:
        """Replicas that do not serve yet."""
        return sum([p.starting for p in self.pools])

    @property
    def within_reach(self) -> int:
        """Replicas that can be had now."""
        return self.held + sum([max(0, p.room) for p in self.pools])

    def within(self, replicas: int) -> int:
        """Return the number of replicas nearest to ``replicas`` within the spec's bounds."""
        least = self.minimum if self.may_sleep else max(1, self.minimum)
        return min(max(replicas, least), max(least, self.maximum))

    def bounded(self, replicas: int) -> int:
        """Return the same, where one replica at least works beside those that stand by."""
        found = self.within(replicas)
        return self.within(max(found, 1 + self.standby)) if found > 0 else found


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """What a tick decided for one service."""

    replicas: int
    """Wanted in total, ready and starting ones included; never more than can be had now."""
    wished: int
    """Within the bounds, before asking what fits."""
    by_pool: Mapping[str, int]
    """``replicas`` by pool, for whoever grants and takes: held ones first, then by preference."""
    reason: Reason
    message: str
    active: bool | None
    """The status of ScalingActive; None is Unknown."""
    state: ScalingState
    capacity: float | None = None
    """Items a second that the replicas are to be able to serve; None where nothing was counted."""
    cooldown_left: float = 0.0
    """Seconds for which a cool-down still holds it back."""
