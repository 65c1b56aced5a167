"""What a move may cost for what it gains, how long replicas rest, and how many move at once."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from conch.decisions.fleet import Pool, ServiceKey, Shape
from conch.decisions.migration.plan import Because
from conch.decisions.migration.view import MovableFleet, Replica
from conch.decisions.placement import bar

REST = 10.0
"""Load times that a replica rests after it was made or moved."""
ENOUGH = 0.5
"""Share of what is gained over share of what is disturbed, from which a move is worth it. Karpenter's
"balanced" consolidation has the same form and the same number."""
MOVED_PER_GAINED = 2.0
"""GPUs that may be moved for each GPU that is gained, as many as may be taken back for one
(shares/taking.py). Where all replicas load equally fast it is the same bound as ENOUGH; it holds also
where the small ones load in no time, since each move takes its GPUs twice for a while."""
AT_ONCE = 0.1
"""Share of a pool's replicas that moves at once; one may always."""
_LEAST_LOAD_S = 1.0
_SMALL = 1e-9


def units(pool: Pool, shape: Shape) -> float:
    """Return how many GPUs a replica has; where there are none it counts as one."""
    return pool.gpus_of(shape.need.gpus) or 1.0


def amount(value: float, pool: Pool) -> str:
    """Return an amount in words."""
    one = "replica" if pool.without_gpus else "GPU"
    return f"{value:.3g} {one}" + ("" if value == 1 else "s")


@dataclass(frozen=True, slots=True)
class Worth:
    """What a proposal gains for what it disturbs.

    gain share        GPUs gained / GPUs that the pool's replicas hold
    disruption share  sum of GPUs x load time of those that move / the same of the pool's replicas
    """

    gained: float
    moved: float
    gain_share: float
    disruption_share: float

    @property
    def ratio(self) -> float:
        """Gain share over disruption share."""
        return self.gain_share / max(self.disruption_share, _SMALL)

    @property
    def enough(self) -> bool:
        """Whether it is worth it."""
        cheap = self.moved <= MOVED_PER_GAINED * self.gained + _SMALL
        return cheap and self.ratio >= ENOUGH - _SMALL

    def __str__(self) -> str:
        each = f"{self.moved / self.gained:.2f} for each" if self.gained > _SMALL else "for nothing"
        return (
            f"{self.gained:.3g} gained for {self.moved:.3g} moved ({each}, at most "
            f"{MOVED_PER_GAINED:g}); gain share {self.gain_share:.2%} / disruption share "
            f"{self.disruption_share:.2%} = {self.ratio:.2f}, at least {ENOUGH:g}"
        )


class Scales:
    """What shares are shares of, by pool."""

    def __init__(self, fleet: MovableFleet) -> None:
        self._fleet = fleet
        self._held: dict[str, float] = defaultdict(float)
        self._disruption: dict[str, float] = defaultdict(float)
        for pool, replicas in fleet.by_pool.items():
            if pool in fleet.pool_of:
                self._held[pool] = sum(map(self.units, replicas))
                self._disruption[pool] = sum(map(self.disruption, replicas))

    def units(self, replica: Replica) -> float:
        """Return the GPUs of a replica."""
        return units(self._fleet.pool_of[replica.pool], replica.shape)

    def disruption(self, replica: Replica) -> float:
        """Return what moving a replica disturbs: the GPU-seconds in which its GPUs are held twice."""
        return self.units(replica) * max(_LEAST_LOAD_S, replica.load_seconds)

    def worth(self, replicas: Iterable[Replica], gained: float, pool: str) -> Worth:
        """Return what moving replicas is worth that gains so many GPUs of a pool."""
        there = list(replicas)
        shares = (self.disruption(r) / self._disruption[r.pool] for r in there)
        held = max(self._held[pool], _SMALL)
        return Worth(gained, sum(map(self.units, there)), gained / held, sum(shares))


class Limits:
    """Which replicas may move at all, and which of those now."""

    def __init__(self, fleet: MovableFleet, scales: Scales, now: float) -> None:
        self._fleet, self._scales, self._now = fleet, scales, now
        self._moving: dict[str, int] = defaultdict(int)
        self._units: dict[str, float] = defaultdict(float)
        self._budgets: dict[str, float] = {}
        self._services: set[ServiceKey] = set()
        for move in fleet.open:
            replica = fleet.by_uid.get(move.uid)
            if replica is not None:
                self._services.add(replica.service)
                if not move.asked:
                    self._moving[replica.pool] += 1
                    self._units[replica.pool] += self._units_of(replica)

    def never(self, replica: Replica) -> tuple[Because, str] | None:
        """Return why a replica moves for no reason of the planner's but a failing node, or None."""
        return self.bound(replica) or self._rest(replica)

    def bound(self, replica: Replica) -> tuple[Because, str] | None:
        """Return why a replica moves for no reason at all, however long it has rested, or None."""
        fleet = self._fleet
        service, node = fleet.services.get(replica.service), fleet.nodes.get(replica.node)
        if replica.uid in fleet.moving:
            return Because.HELD, "it moves already"
        if service is None or replica.pool not in fleet.pool_of:
            return Because.HELD, "its service or its pool is not known"
        if service.held:
            return Because.HELD, service.held
        if not replica.ready:
            return Because.HELD, "it does not answer"
        if node is None or (why := bar(node, replica.shape)) is not None:
            return Because.HELD, f"its node is left anyway: {'gone' if node is None else why}"
        return None

    def _rest(self, replica: Replica) -> tuple[Because, str] | None:
        rest = rest_seconds(replica)
        left = replica.since + rest - self._now
        if left <= 0:
            return None
        return (
            Because.RESTING,
            f"it rests for {left:.0f} s more of {rest:.0f} s, {REST:g} load times",
        )

    def not_now(self, replica: Replica) -> tuple[Because, str] | None:
        """Return why a replica that may move has to let others go first, or None."""
        if replica.service in self._services:
            return Because.HELD, "another replica of its service moves"
        name = replica.pool
        moving, most = self._moving[name], most_at_once(self._fleet, name)
        if moving >= most:
            return Because.BUDGET, f"{moving} of pool {name} move, at most {most} do at once"
        budget, spent = self._budget(name), self._units[name]
        if moving and spent + self._units_of(replica) > budget + _SMALL:
            text = f"{spent:.3g} GPUs of pool {name} move, its disruption budget is {budget:.3g}"
            return Because.BUDGET, text
        return None

    def start(self, replica: Replica) -> None:
        """Count a move that starts now."""
        self._services.add(replica.service)
        self._moving[replica.pool] += 1
        self._units[replica.pool] += self._units_of(replica)

    def _budget(self, pool: str) -> float:
        if pool not in self._budgets:
            self._budgets[pool] = _budget(self._fleet.pool_of[pool])
        return self._budgets[pool]

    def _units_of(self, replica: Replica) -> float:
        known = replica.pool in self._fleet.pool_of
        return self._scales.units(replica) if known else 0.0


def rest_seconds(replica: Replica) -> float:
    """Return how long a replica rests after it was made or moved (s)."""
    return REST * max(_LEAST_LOAD_S, replica.load_seconds)


def most_at_once(fleet: MovableFleet, pool: str) -> int:
    """Return how many of a pool's replicas move at once at most."""
    return max(1, int(AT_ONCE * len(fleet.by_pool.get(pool, ())) + _SMALL))


def _budget(pool: Pool) -> float:
    """Return the GPUs of a pool that may move at once by its own spec; one replica always may."""
    text = pool.spec.disruption_budget
    if pool.without_gpus:
        return float("inf")
    if not text.endswith("%"):
        return float(text)
    gpus = sum(round(n.allocatable.get(pool.spec.resource_name, 0.0)) for n in pool.nodes)
    return pool.gpus_of(gpus) * float(text[:-1]) / 100.0
