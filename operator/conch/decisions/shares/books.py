"""The books of one pass: who holds what, is entitled to what, and was given or lost what."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from conch.decisions.fleet import Amounts, Pool, ServiceKey, Shape
from conch.decisions.placement import Ledger
from conch.decisions.shares.claims import Claim, Holding, Standing, Tenant
from conch.decisions.shares.entitlement import Entrant, entitlements, weights_now
from conch.decisions.shares.measure import Fleet, fleet_of, large_enough, open_capacity

_SMALL = 1e-9


@dataclass
class Books:
    """What a pass writes down as it goes. Charges are in GPUs of relative speed 1."""

    tenants: Mapping[str, Tenant]
    claims: Sequence[Claim]
    """In the order in which a tenant's own are served."""
    pools: Mapping[str, Pool]
    free: Ledger
    """What is free, and what comes free by itself."""
    now: float
    fleet: Fleet
    entitled: Mapping[str, float] = field(default_factory=dict)
    demand: Mapping[str, float] = field(default_factory=dict)
    due: Mapping[str, float] = field(default_factory=dict)
    """Each tenant's part of the fleet by its weight of now, whatever it wants."""
    allocated: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    held: Mapping[str, float] = field(default_factory=dict)
    """What was allocated when the books were opened."""
    gpus: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    """By tenant and accelerator."""
    granted: dict[ServiceKey, dict[str, int]] = field(default_factory=dict)
    gone: dict[ServiceKey, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Holdings that are taken back, by service."""
    _of: dict[str, list[Claim]] = field(default_factory=dict)
    _totals: dict[ServiceKey, int] = field(default_factory=dict)
    """By service: all that is granted."""
    _options: dict[ServiceKey, list[str]] = field(default_factory=dict)
    _suffices: dict[tuple[int, str], bool] = field(default_factory=dict)
    _large: dict[tuple[Amounts, str], bool] = field(default_factory=dict)
    _gpus: dict[tuple[int, str], float] = field(default_factory=dict)
    _charges: dict[tuple[int, str], float] = field(default_factory=dict)

    def of(self, tenant: str) -> Sequence[Claim]:
        """Return the claims of a tenant, in order."""
        if not self._of:
            for claim in self.claims:
                self._of.setdefault(claim.tenant, []).append(claim)
        return self._of.get(tenant, ())

    def charge(self, claim: Claim, pool: str) -> float:
        """Return what a replica is charged in a pool."""
        shape = claim.shapes[pool]
        # By identity: hashing amounts would take longer than what is saved.
        key = (id(shape), pool)
        known = self._charges.get(key)
        if known is None:
            known = self._charges[key] = self.fleet.charge(shape, self.pools[pool])
        return known

    def gpus_in(self, claim: Claim, pool: str) -> float:
        """Return how many GPUs a replica takes in a pool."""
        shape = claim.shapes[pool]
        key = (id(shape), pool)
        known = self._gpus.get(key)
        if known is None:
            known = self._gpus[key] = self.pools[pool].gpus_of(shape.need.gpus)
        return known

    def options(self, claim: Claim) -> list[str]:
        """Return the pools that a service may use, as far as they are there and large enough.

        What fits on no node at all is no demand: others would go without for what nobody can give.
        """
        known = self._options.get(claim.key)
        if known is None:
            there = [p for p in claim.pools if p in self.pools and p in claim.shapes]
            known = [p for p in there if self._holds(p, claim.shapes[p])]
            self._options[claim.key] = known
        return known

    def _holds(self, pool: str, shape: Shape) -> bool:
        """Tell whether any node of a pool is large enough, were it empty."""
        key = (id(shape), pool)
        known = self._suffices.get(key)
        if known is None:
            need = (shape.need, pool)
            if need not in self._large:
                self._large[need] = large_enough(self.pools[pool], shape.need)
            known = self._suffices[key] = self._large[need]
        return known

    def total(self, claim: Claim) -> int:
        """Return the replicas that a service may have now."""
        return self._totals[claim.key]

    def missing(self, claim: Claim) -> int:
        """Return how many of the wished replicas a service does not have."""
        return max(0, claim.wished - self.total(claim))

    def share(self, tenant: str, more: float = 0.0) -> float:
        """Return allocation over entitlement, with ``more`` on top; infinite without entitlement."""
        entitled = self.entitled.get(tenant, 0.0)
        allocated = self.allocated[tenant] + more
        return allocated / entitled if entitled > _SMALL else float("inf")

    def level(self, tenant: str, more: float = 0.0) -> float:
        """Return allocation over what is due by weight, with ``more`` on top; infinite without."""
        due = self.due.get(tenant, 0.0)
        return (self.allocated[tenant] + more) / due if due > _SMALL else float("inf")

    def owed(self, claim: Claim, pool: str) -> bool:
        """Tell whether one more replica in a pool is within the tenant's guaranteed quota.

        One that takes no GPU is owed to nobody: it would go before all that do.
        """
        accelerator = self.pools[pool].spec.accelerator
        quota = self.tenants[claim.tenant].quota.get(accelerator, 0.0)
        return self.gpus_in(claim, pool) > 0 and self._after(claim, pool) <= quota + _SMALL

    def allowed(self, claim: Claim, pool: str) -> bool:
        """Tell whether the tenant's limit allows one more replica in a pool."""
        most = self.tenants[claim.tenant].most(self.pools[pool].spec.accelerator)
        # A replica that takes no GPU is no matter of limits.
        return self.gpus_in(claim, pool) == 0 or self._after(claim, pool) <= most + _SMALL

    def _after(self, claim: Claim, pool: str) -> float:
        accelerator = self.pools[pool].spec.accelerator
        return self.gpus[claim.tenant, accelerator] + self.gpus_in(claim, pool)

    def give(self, claim: Claim, pool: str) -> None:
        """Grant a service one more replica in a pool."""
        granted = self.granted[claim.key]
        granted[pool] = granted.get(pool, 0) + 1
        self._totals[claim.key] += 1
        self._move(claim, pool, 1)

    def take(self, claim: Claim, holding: Holding) -> None:
        """Take a replica back."""
        self.granted[claim.key][holding.pool] -= 1
        self._totals[claim.key] -= 1
        self.gone[claim.key].add(holding.id)
        self._move(claim, holding.pool, -1)

    def _move(self, claim: Claim, pool: str, replicas: int) -> None:
        self.allocated[claim.tenant] += replicas * self.charge(claim, pool)
        gpus = replicas * self.gpus_in(claim, pool)
        self.gpus[claim.tenant, self.pools[pool].spec.accelerator] += gpus

    def standings(self) -> Mapping[str, Standing]:
        """Return where each tenant stands."""
        waiting: dict[str, int] = defaultdict(int)
        for claim in self.claims:
            waiting[claim.tenant] += self.missing(claim)
        return {
            name: Standing(
                allocated=self.held.get(name, 0.0),
                entitlement=self.entitled.get(name, 0.0),
                demand=self.demand.get(name, 0.0),
                waiting=waiting[name],
            )
            for name in sorted(self.tenants)
        }


def opened(
    tenants: Iterable[Tenant],
    claims: Iterable[Claim],
    pools: Iterable[Pool],
    *,
    free: Ledger,
    now: float,
    fleet: Fleet | None = None,
) -> Books:
    """Return the books as the fleet is now: what is held is granted. Order of input never matters."""
    by_name = {p.name: p for p in sorted(pools, key=lambda p: p.name)}
    in_order = sorted(claims, key=lambda c: (-c.priority, c.created, c.key))
    known = {t.name: t for t in tenants}
    # A namespace of no Tenant is a tenant of weight 1 by its own name.
    known |= {c.tenant: Tenant(c.tenant) for c in in_order if c.tenant not in known}
    books = Books(known, in_order, by_name, free, now, fleet or fleet_of(by_name.values()))
    held_in: dict[str, float] = defaultdict(float)
    for claim in in_order:
        books.granted[claim.key] = dict(claim.held_by_pool)
        books._totals[claim.key] = len(claim.held)  # noqa: SLF001 -- it is what makes the books
        for pool, count in (*claim.held_by_pool.items(), *claim.surplus_by_pool.items()):
            if pool in by_name and pool in claim.shapes:
                books._move(claim, pool, count)  # noqa: SLF001 -- it is what makes the books
                held_in[pool] += count * books.charge(claim, pool)
    capacity = open_capacity(by_name.values(), held_in, free, books.fleet)
    _entitle(books, capacity)
    books.held = dict(books.allocated)
    return books


def _entitle(books: Books, capacity: Mapping[str, float]) -> None:
    demands = _demands(books)
    names = sorted(n for n, demand in demands.items() if sum(demand.values()) > 0)
    tenants = [books.tenants[n] for n in names]
    whole = sum(c for c in capacity.values() if c != float("inf"))
    weights = weights_now([t.weight for t in tenants], [t.usage for t in tenants], whole)
    entrants = [
        Entrant(weight, _quota(books, tenant, books.of(tenant.name)), demands[tenant.name])
        for weight, tenant in zip(weights, tenants, strict=True)
    ]
    together = sum(weights) or 1.0
    books.due = {n: whole * w / together for n, w in zip(names, weights, strict=True)}
    books.demand = {n: sum(demands[n].values()) for n in names}
    books.entitled = dict(zip(names, entitlements(entrants, capacity), strict=True))


def _quota(books: Books, tenant: Tenant, claims: Iterable[Claim]) -> float:
    """Return a tenant's quota: of each accelerator as far as its claims want it, by speed."""
    if not tenant.quota:
        return 0.0
    wanted: dict[str, float] = defaultdict(float)
    speeds = {p.spec.accelerator: p.spec.relative_speed for p in books.pools.values()}
    for claim in claims:
        there = {books.pools[p].spec.accelerator for p in books.options(claim)}
        most = max((books.gpus_in(claim, p) for p in books.options(claim)), default=0.0)
        for accelerator in there:
            wanted[accelerator] += claim.wished * most
    return sum(
        min(gpus, wanted[accelerator]) * speeds.get(accelerator, 0.0)
        for accelerator, gpus in tenant.quota.items()
    )


def _demands(books: Books) -> Mapping[str, Mapping[frozenset[str], float]]:
    """Return what each tenant wants, by the pools that would do; within its limits."""
    found: dict[str, dict[frozenset[str], float]] = defaultdict(lambda: defaultdict(float))
    for claim in books.claims:
        options = books.options(claim)
        if not options or claim.wished <= 0:
            continue
        there = [(books.charge(claim, p), n) for p, n in claim.held_by_pool.items() if p in options]
        left, total = claim.wished, 0.0
        for charge, count in sorted(there, reverse=True):
            total += charge * min(count, left)
            left -= min(count, left)
        found[claim.tenant][frozenset(options)] += total + left * books.charge(claim, options[0])
    return {
        name: {r: min(amount, _most(books, books.tenants[name], r)) for r, amount in of.items()}
        for name, of in found.items()
    }


def _most(books: Books, tenant: Tenant, reach: frozenset[str]) -> float:
    """Return what a tenant may have at most in some pools, by its limits."""
    speeds: dict[str, float] = {}
    for name in reach:
        spec = books.pools[name].spec
        speeds[spec.accelerator] = max(speeds.get(spec.accelerator, 0.0), spec.relative_speed)
    return sum(tenant.most(accelerator) * speed for accelerator, speed in speeds.items() if speed)
