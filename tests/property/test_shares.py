"""What holds of every sharing of a fleet, whoever holds and wishes for what."""

import itertools
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conch.api.tenant import UsageRecord
from conch.decisions import placement
from conch.decisions.fleet import Pool
from conch.decisions.shares import Claim, Holding, Shares, Tenant, share
from conch.decisions.shares.entitlement import Entrant, entitlements
from conch.decisions.shares.usage import Held, Record, recorded
from conch.reconcile.tenants import from_written, written
from tests.unit.decisions.shares.fleets import GPU, LONG_AGO, World, pool

CALM = settings(deadline=None, max_examples=60)
"""A busy machine is no failure."""
NAMES = "abcd"
SPEEDS = (0.5, 1.0, 2.0)
HOUR = 3600.0
WISHES = st.lists(st.integers(0, 8), min_size=8, max_size=8)


def gpus_of(there: Pool) -> int:
    return sum(int(n.allocatable[GPU]) for n in there.nodes)


@st.composite
def fleets(draw: st.DrawFn) -> list[Pool]:
    """Return one or two pools of up to three nodes."""
    return [
        pool(
            name,
            draw(st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=3)),
            relativeSpeed=draw(st.sampled_from(SPEEDS)),
            disruptionBudget=draw(st.sampled_from(["100%", "10%", "1"])),
        )
        for name in draw(st.sampled_from([("x",), ("x", "y")]))
    ]


@st.composite
def worlds(draw: st.DrawFn, shapes: Sequence[int] = (1, 1, 2, 4), *, quotas: bool = True) -> World:
    """Return a fleet with tenants and what their services want; nothing runs yet."""
    here = World(draw(fleets()))
    names = NAMES[: draw(st.integers(2, 4))]
    left = {p.name: 0.9 * gpus_of(p) for p in here.pools}
    for name in names:
        quota = {p: draw(st.integers(0, int(most))) for p, most in left.items() if quotas}
        for p, gpus in quota.items():
            left[p] -= gpus
        limit = draw(st.dictionaries(st.sampled_from(sorted(left)), st.integers(4, 9), max_size=1))
        here.tenants = {
            **here.tenants,
            name: Tenant(
                name,
                weight=draw(st.sampled_from([1.0, 2.0, 5.0])),
                quota={p: float(min(q, limit.get(p, q))) for p, q in quota.items() if q},
                limit={p: float(most) for p, most in limit.items()},
                lending=draw(st.booleans()),
                usage=draw(st.floats(0, 20)),
            ),
        }
        for service in range(draw(st.integers(1, 2))):
            reach = draw(st.permutations([p.name for p in here.pools]))
            here.want(
                f"{name}/s{service}",
                draw(st.integers(0, 8)),
                gpus=draw(st.sampled_from(shapes)),
                pools=reach[: draw(st.integers(1, len(reach)))],
                priority=draw(st.sampled_from([0, 0, 10])),
                indifferent=draw(st.booleans()),
            )
    return here


@st.composite
def busy(draw: st.DrawFn, shapes: Sequence[int] = (1, 1, 2, 4), *, quotas: bool = True) -> World:
    """Return a world after some steps and other wishes."""
    here = draw(worlds(shapes, quotas=quotas))
    for _ in range(draw(st.integers(0, 2))):
        for _ in range(draw(st.integers(1, 4))):
            here.step()
        rewish(here, draw(WISHES))
    return here


def rewish(here: World, wishes: Sequence[int]) -> None:
    """Let each service want as many as it is told; there are at most two of four tenants."""
    for name, wished in zip(list(here.claims), wishes, strict=False):
        here.want(name, wished)


def held_by_node(here: World) -> Mapping[str, int]:
    found: dict[str, int] = defaultdict(int)
    for claim in here.claims.values():
        for h in claim.held:
            found[str(h.node)] += claim.shapes[h.pool].need.gpus
    return found


def granted(here: World, found: Shares, tenant: str, where: str) -> int:
    return sum(
        found.grants[c.key].replicas.get(where, 0) * c.shapes[where].need.gpus
        for c in here.claims.values()
        if c.tenant == tenant and where in c.shapes
    )


@CALM
@given(busy())
def test_no_pool_node_or_limit_is_ever_exceeded(here: World) -> None:
    for _ in range(3):
        before = {c.key: len(c.held) for c in here.claims.values()}
        found = here.step()
        for there in here.pools:
            total = sum(granted(here, found, t, there.name) for t in here.tenants)
            assert total <= gpus_of(there)
            for name, tenant in here.tenants.items():
                assert granted(here, found, name, there.name) <= tenant.most(there.name)
            held = held_by_node(here)
            assert all(held[n.name] <= n.allocatable[GPU] for n in there.nodes)
        for claim in here.claims.values():
            assert found.grants[claim.key].total <= max(claim.wished, before[claim.key])


@CALM
@given(busy((1,)))
def test_a_quota_is_there_within_two_steps_whatever_others_hold(here: World) -> None:
    here.step()
    here.step()
    for there in here.pools:
        for name, tenant in here.tenants.items():
            mine = [c for c in here.claims.values() if c.tenant == name]
            wanted = sum(c.wished for c in mine if c.pools == (there.name,))
            held = sum(h.pool == there.name for c in mine for h in c.held)
            assert held >= min(tenant.quota.get(there.name, 0.0), wanted)


@CALM
@given(busy())
def test_nobody_is_taken_below_its_quota(here: World) -> None:
    # Within a tenant, a higher priority may take larger replicas than its own.
    here.claims = {name: replace(c, priority=0) for name, c in here.claims.items()}
    for _ in range(3):
        before = dict(here.claims)
        found = here.step()
        for there in here.pools:
            for name, tenant in here.tenants.items():
                lost = sum(
                    h.pool == there.name and h.id in found.grants[c.key].given_up
                    for c in before.values()
                    if c.tenant == name
                    for h in c.held
                )
                kept = granted(here, found, name, there.name)
                assert not lost or kept >= tenant.quota.get(there.name, 0.0)


@CALM
@given(busy(), st.randoms(use_true_random=False))
def test_the_order_of_what_comes_in_never_matters(here: World, chance: random.Random) -> None:
    def shuffled(claim: Claim) -> Claim:
        return replace(
            claim,
            held=tuple(chance.sample(claim.held, len(claim.held))),
            shapes=dict(chance.sample(sorted(claim.shapes.items()), len(claim.shapes))),
        )

    def decided(
        tenants: Sequence[Tenant], claims: Sequence[Claim], pools: Sequence[Pool]
    ) -> Shares:
        return share(tenants, claims, pools, free=here.free(), now=here.now + 60)

    tenants, claims = list(here.tenants.values()), list(here.claims.values())
    once = decided(tenants, claims, here.pools)
    others = [shuffled(c) for c in chance.sample(claims, len(claims))]
    pools = chance.sample(list(here.pools), len(here.pools))
    again = decided(chance.sample(tenants, len(tenants)), others, pools)
    assert again.grants == once.grants
    assert again.standings == once.standings


@CALM
@given(busy())
def test_the_fleet_comes_to_rest(here: World) -> None:
    here.settle(most=60)


@CALM
@given(busy())
def test_nobody_waits_while_what_it_may_use_is_free(here: World) -> None:
    keepers = [t for t in here.tenants.values() if t.quota and not t.lending]
    here.tenants = {**here.tenants, **{t.name: replace(t, lending=True) for t in keepers}}
    here.settle(most=60)
    free = here.free()
    for claim in here.claims.values():
        most = here.tenants[claim.tenant].most
        for there in here.pools:
            if there.name in claim.pools and len(claim.held) < claim.wished:
                has = granted(here, here.decide(), claim.tenant, there.name)
                full = has + claim.shapes[there.name].need.gpus > most(there.name)
                shape = claim.shapes[there.name]
                assert full or placement.choose(there, shape, free) is None


@CALM
@given(st.data())
def test_a_larger_weight_never_gets_less(data: st.DataObject) -> None:
    here = data.draw(worlds((1,), quotas=False))
    usage, wished = data.draw(st.floats(0, 8)), data.draw(st.integers(0, 12))
    weights = {"a": data.draw(st.floats(0.1, 9)), "b": data.draw(st.floats(0.1, 9))}
    for name, weight in weights.items():
        here.tenants = {**here.tenants, name: Tenant(name, weight=weight, usage=usage)}
        here.claims.pop(f"{name}/s1", None)
        pools = [p.name for p in here.pools]
        here.want(f"{name}/s0", wished, pools=pools, priority=0, indifferent=False)
    less, more = sorted(weights, key=lambda n: weights[n])
    standings = here.step().standings
    assert standings[more].entitlement >= standings[less].entitlement - 1e-6
    biggest = max(p.spec.relative_speed for p in here.pools)
    assert standings[more].allocated >= standings[less].allocated - biggest


class TestEntitlements:
    """The amounts alone."""

    amounts = st.floats(0, 20) | st.sampled_from([1e-80, 2e-16, 5e-10, 1e-9, 2e-9])
    demands = st.dictionaries(
        st.sampled_from([frozenset("x"), frozenset("y"), frozenset("xy")]), amounts, max_size=3
    )
    entrants = st.lists(
        st.builds(Entrant, st.floats(0.01, 10), st.floats(0, 10), demands), min_size=1, max_size=4
    )
    capacities = st.fixed_dictionaries({"x": amounts, "y": amounts})

    @CALM
    @given(entrants, capacities)
    def test_never_above_demand_or_what_is_there(
        self, entrants: list[Entrant], capacity: dict[str, float]
    ) -> None:
        found = entitlements(entrants, capacity)
        demand = [sum(e.demand.values()) for e in entrants]
        assert all(-1e-6 <= f <= d + 1e-6 for f, d in zip(found, demand, strict=True))
        assert sum(found) <= sum(capacity.values()) + 1e-5

    @CALM
    @given(entrants, st.floats(0, 40))
    def test_one_pool_is_given_out_to_the_end(self, entrants: list[Entrant], there: float) -> None:
        entrants = [replace(e, demand={frozenset("x"): sum(e.demand.values())}) for e in entrants]
        demand = sum(sum(e.demand.values()) for e in entrants)
        found = entitlements(entrants, {"x": there})
        assert sum(found) == pytest.approx(min(demand, there), abs=1e-5)

    @CALM
    @given(entrants, st.floats(20, 60))
    def test_a_quota_that_fits_is_the_least(self, entrants: list[Entrant], there: float) -> None:
        part = min(1.0, there / max(1e-9, sum(e.quota for e in entrants)))
        entrants = [
            replace(e, quota=e.quota * part, demand={frozenset("x"): sum(e.demand.values())})
            for e in entrants
        ]
        for entrant, found in zip(entrants, entitlements(entrants, {"x": there}), strict=True):
            assert found >= min(entrant.quota, sum(entrant.demand.values())) - 1e-5

    @CALM
    @given(entrants, capacities, st.floats(1, 10))
    def test_more_weight_is_never_less(
        self, entrants: list[Entrant], capacity: dict[str, float], times: float
    ) -> None:
        before = entitlements(entrants, capacity)
        heavier = [replace(entrants[0], weight=entrants[0].weight * times), *entrants[1:]]
        assert entitlements(heavier, capacity)[0] >= before[0] - 1e-5


@dataclass
class Days:
    """A world whose tenants' usage is kept over days, as a status keeps it."""

    world: World
    records: dict[str, Record]
    restarts: bool = False

    @classmethod
    def of(cls, world: World) -> "Days":
        return cls(world, {name: Record(as_of=world.now) for name in world.tenants})

    def held(self, tenant: str) -> list[Held]:
        speed = {p.name: p.spec.relative_speed for p in self.world.pools}
        return [
            Held(h.pool, float(gpus), gpus * speed[h.pool], price=1.0)
            for claim in self.world.claims.values()
            if claim.tenant == tenant
            for h in claim.held
            for gpus in [claim.shapes[h.pool].need.gpus]
        ]

    def step(self, seconds: float) -> Shares:
        """Let time pass; charge, decide and carry out."""
        world = self.world
        self.charge(world.now + seconds)
        world.tenants = {
            name: replace(t, usage=self.records[name].usage) for name, t in world.tenants.items()
        }
        found = world.step(seconds)
        self.charge(world.now)
        return found

    def charge(self, now: float) -> None:
        """Write down what is held from now on."""
        for name in self.records:
            record = recorded(self.records[name], self.held(name), now)
            if self.restarts:
                record = from_written(UsageRecord.model_validate(written(record)))
            self.records[name] = record

    def count(self, hours: float, step: float) -> tuple[int, int]:
        """Return how often a pair of tenants took from each other in turns, and all that moved."""
        last: dict[frozenset[str], str] = {}
        reversals = 0
        for _ in range(int(hours * HOUR / step)):
            before = {t: self.world.of(t) for t in self.records}
            self.step(step)
            change = {t: self.world.of(t) - before[t] for t in self.records}
            for gains, loses in itertools.permutations(self.records, 2):
                if change[gains] > 0 > change[loses]:
                    reversals += last.get(frozenset((gains, loses)), gains) != gains
                    last[frozenset((gains, loses))] = gains
        return reversals, self.world.moved


def contended(weights: Sequence[float], gpus: int) -> Days:
    """Return tenants that all want everything; the first has had it for days."""
    here = World([pool(nodes=[gpus], disruptionBudget="10%")])
    here.tenants = {n: Tenant(n, weight=w) for n, w in zip(NAMES, weights, strict=False)}
    here.want("a", gpus, load_seconds=42.0)
    days = Days.of(here)
    for _ in range(48):
        days.step(HOUR)
    for name in here.tenants:
        here.want(name, gpus, load_seconds=42.0)
    return days


@pytest.mark.parametrize(
    ("weights", "gpus", "moves"),
    [((1, 1), 8, 4), ((1, 1), 7, 4), ((2, 1), 8, 3), ((1, 1, 1), 8, 6), ((3, 2, 1), 16, 9)],
)
def test_in_three_days_of_contention_nothing_is_reversed(
    weights: Sequence[float], gpus: int, moves: int
) -> None:
    """A share by decayed usage instead of by allocation reversed itself 131 times here."""
    days = contended(weights, gpus)
    reversals, moved = days.count(72, 600.0)
    assert reversals == 0
    assert moved <= moves
    for name, weight in zip(days.records, weights, strict=True):
        assert abs(days.world.of(name) - gpus * weight / sum(weights)) <= 1


@pytest.mark.parametrize(("tenants", "gpus"), [(2, 1), (4, 2)])
def test_where_not_all_can_have_one_they_take_turns_of_hours(tenants: int, gpus: int) -> None:
    days = contended([1.0] * tenants, gpus)
    _, moved = days.count(72, 600.0)
    assert tenants <= moved <= 18
    for record in days.records.values():
        assert record.usage == pytest.approx(gpus / tenants, abs=0.15)


@settings(deadline=None, max_examples=25)
@given(worlds((1,), quotas=False), st.data())
def test_with_a_past_that_grows_there_is_rest_too(here: World, data: st.DataObject) -> None:
    days = Days.of(here)
    for _ in range(data.draw(st.integers(1, 20))):
        days.step(data.draw(st.floats(600, 20 * HOUR)))
    rewish(here, data.draw(WISHES))
    reversals, _ = days.count(24, HOUR)
    # Turns of those who would else hold nothing; never more than one in some hours for a pair.
    assert reversals <= 4 * len(here.tenants)


@CALM
@given(worlds(), st.data())
def test_charges_add_up_to_what_was_held(here: World, data: st.DataObject) -> None:
    days, expected = Days.of(here), 0.0
    for _ in range(data.draw(st.integers(1, 6))):
        seconds = data.draw(st.floats(0.001, 1e5))
        expected += sum(held_by_node(here).values()) * seconds / HOUR
        days.step(seconds)
        rewish(here, data.draw(WISHES))
    accounts = [a for r in days.records.values() for a in r.accounts.values()]
    assert sum(a.gpu_hours for a in accounts) == pytest.approx(expected)
    assert sum(a.cost for a in accounts) == pytest.approx(expected)


def decided(found: Shares) -> object:
    return {k: (g.replicas, g.given_up, g.reason) for k, g in found.grants.items()}


@CALM
@given(worlds(), st.data())
def test_a_restart_changes_nothing(here: World, data: st.DataObject) -> None:
    other = World(here.pools, here.tenants, dict(here.claims), here.now)
    one, two = Days.of(here), Days.of(other)
    two.restarts = True
    for _ in range(data.draw(st.integers(1, 5))):
        seconds = data.draw(st.floats(1, 1e5))
        # But for words: a number in them may lie where rounding makes a difference.
        assert decided(one.step(seconds)) == decided(two.step(seconds))
        for name, record in one.records.items():
            back = two.records[name]
            assert back.as_of == pytest.approx(record.as_of, abs=1e-5)
            assert back.usage == pytest.approx(record.usage, abs=1e-6)
            for accelerator, account in record.accounts.items():
                hours = back.accounts[accelerator].gpu_hours
                assert hours == pytest.approx(account.gpu_hours, abs=1e-6)


def small_worlds() -> Iterator[World]:
    """Yield the fleets of up to three GPUs, with all that three tenants may hold and want."""
    for nodes in ([2], [1, 2], [1, 1, 1]):
        there, places = pool("x", nodes), [f"x-{n}" for n, g in enumerate(nodes) for _ in range(g)]
        counts = itertools.product(range(len(places) + 1), repeat=3)
        holdings = [dict(zip("abc", h, strict=True)) for h in counts if sum(h) <= len(places)]
        for held, wishes in itertools.product(holdings, itertools.product((0, 1, 3), repeat=3)):
            yield small_world(there, places, held, wishes, {"a": 2, "b": 1})
            if held["a"] >= held["b"] >= held["c"]:
                yield small_world(there, places, held, wishes, {})


def small_world(
    there: Pool,
    places: Sequence[str],
    held: Mapping[str, int],
    wishes: Sequence[int],
    quota: Mapping[str, int],
) -> World:
    here, free = World([there]), iter(places)
    for name, wished in zip(held, wishes, strict=True):
        here.tenants = {**here.tenants, name: Tenant(name, quota={"x": float(quota.get(name, 0))})}
        here.want(name, wished)
        found = [Holding(f"{name}{n}", "x", next(free), LONG_AGO) for n in range(held[name])]
        here.claims[name] = replace(here.claims[name], held=tuple(found))
    return here


def test_all_small_fleets_keep_their_quotas_and_come_to_rest() -> None:
    for here in small_worlds():
        (there,) = here.pools
        for _ in range(2):
            here.step()
            assert sum(here.of(n) for n in here.tenants) <= gpus_of(there)
        quotas = sum(t.quota["x"] for t in here.tenants.values())
        for name, tenant in here.tenants.items():
            claim = here.claims[name]
            if quotas <= gpus_of(there):
                assert len(claim.held) >= min(tenant.quota["x"], claim.wished)
        here.settle(most=6)
        waits = any(len(c.held) < c.wished for c in here.claims.values())
        assert not waits or sum(here.of(n) for n in here.tenants) == gpus_of(there)
