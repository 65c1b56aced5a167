"""Taking back: who has less than it is entitled to gets GPUs of those who have more.

The ladder's first rung is here: fewer replicas of a service. The rules:

quota      what a tenant's quota guarantees is there at once: from whoever borrows, however young;
           and no tenant is taken below its own quota.
share      else only if the victim's share afterwards is at least the taker's afterwards (rule S2-a
           of Kueue's fair sharing, kubernetes-sigs/kueue keps/1714-fair-sharing), where share is
           allocation now over entitlement now; and only within the taker's entitlement, or from what
           the victim has above its own. Who is almost there does not begin: it would move replicas
           for each small change.
turn       a tenant that holds nothing can fulfil that rule never where each has one replica: it
           takes its turn when the victim holds half as much again by weight as it would then. By
           weight, and not by entitlement, which ends where a tenant wants no more.
priority   within a tenant, from lower priorities; at its limit, from those alone.
time       no replica goes before 3 load times, but to who is owed its quota.
budget     no more of a pool at a time than its disruption budget, or one replica; and no more than
           twice the GPUs that the taker gets, in all its replicas that wait for the room.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conch.decisions.fleet import Amounts, Node, Pool
from conch.decisions.placement import bar
from conch.decisions.shares.books import Books
from conch.decisions.shares.candidates import Bound, Candidates, Terms
from conch.decisions.shares.claims import Claim, Victim
from conch.decisions.shares.handing import booked
from conch.decisions.shares.reserve import Reserve

RUN_TIME = 3.0
"""Load times that a replica stays at least."""
TURN = 1.5
"""Times what the taker holds afterwards, that a victim must hold to make room for who has nothing;
both by weight."""
NEARLY = 0.9
"""Share from which a tenant takes nothing, unless it is on its way: it has replicas that are younger
than they may be taken. On the benchmark's traces (docs/designs/0006-sharing.md) that saves a tenth to
a third of what is taken back."""
MOVED_PER_GAINED = 2.0
"""GPUs that may be taken for each GPU that is gained."""
MOST_TRIES = 32
"""Replicas that are tried for in one pass; the next pass goes on."""
PASS_S = 5.0
"""Seconds after which others of too many have their turn to be tried for."""
MOST_NODES = 16
"""Nodes that are looked at closely for one replica once a way is found: the most promising first."""
_SMALL = 1e-9


@dataclass(frozen=True, slots=True)
class _Room:
    """What a taker would find on a node."""

    free: Amounts
    over: float
    """GPUs by which its tenant would exceed its limit."""
    coming: float = 0.0
    """GPUs that others give up."""


@dataclass(frozen=True, slots=True)
class _Move:
    """Replicas of one node that make room for one of a taker."""

    pool: str
    node: str
    victims: tuple[Victim, ...]
    rank: tuple[int, float, int, float, int, float, str]
    """The first four as in candidates.Bound."""


def take_back(books: Books, leaving: Mapping[str, float]) -> None:
    """Take replicas back for services that lack some; grant their places to those.

    ``leaving``: GPUs of each pool that are being given back already.
    """
    _Taking(books, leaving).run()


class _Taking:
    """One run of it."""

    def __init__(self, books: Books, leaving: Mapping[str, float]) -> None:
        self._books = books
        self._reserve = Reserve(books)
        self._budget = {
            name: _budget(pool) - leaving.get(name, 0.0) for name, pool in books.pools.items()
        }
        self._spent: dict[str, float] = defaultdict(float)
        self._begun: dict[str, bool] = {}
        self._untouched = {name: not leaving.get(name) for name in books.pools}
        self._by_node: dict[str, list[Victim]] | None = None
        self._looked: Candidates | None = None
        self._lowest: dict[str, int] = {}

    def run(self) -> None:
        books = self._books
        short = [c for c in books.claims if books.missing(c) > 0 and books.options(c)]
        short = [c for c in sorted(short, key=self._turn) if self._hopeful(c)]
        kinds = [_kind(c) for c in short]
        tries, in_vain = 0, self._later(short, kinds)
        for claim, kind in zip(short, kinds, strict=True):
            while kind not in in_vain and books.missing(claim) > 0 and self._hopeful(claim):
                tries += 1
                if tries > MOST_TRIES:
                    return
                if not self._fill(claim) and not self._take_for(claim):
                    # Nor is there anything for others like it.
                    in_vain.add(kind)

    def _later(self, short: Sequence[Claim], kinds: Sequence[object]) -> set[object]:
        """Return the kinds of services that are left to other passes, where there are too many.

        Nobody's quota is. The others take turns: else those that come first would be tried for in
        vain each time, and those behind them never.
        """
        pairs = zip(short, kinds, strict=True)
        others = list(dict.fromkeys(kind for claim, kind in pairs if not self._owed(claim)))
        if len(others) <= MOST_TRIES:
            return set()
        start = int(self._books.now // PASS_S) * MOST_TRIES % len(others)
        return set(others) - set((others[start:] + others[:start])[:MOST_TRIES])

    def _turn(self, claim: Claim) -> tuple[bool, float, int, str, object]:
        """Return what takers are ordered by: who is owed its quota, then the lowest share."""
        share = self._books.share(claim.tenant)
        return not self._owed(claim), share, -claim.priority, claim.created, claim.key

    def _hopeful(self, claim: Claim) -> bool:
        """Tell, at little cost, whether anything could be taken at all."""
        books, mine = self._books, claim.tenant
        if self._lowest_of(mine) < claim.priority:
            return True
        options = [p for p in books.options(claim) if books.allowed(claim, p)]
        if not options:
            return False
        if any(books.owed(claim, p) for p in options):
            return True
        more = min(books.charge(claim, p) for p in options)
        return self._below(mine) and any(
            books.share(other) >= books.share(mine, more)
            for other in books.tenants
            if other != mine and books.allocated[other] > 0
        )

    def _lowest_of(self, tenant: str) -> int:
        """Return the lowest priority of a tenant's replicas."""
        if not self._lowest:
            for claim in self._books.claims:
                if claim.held:
                    known = self._lowest.get(claim.tenant, claim.priority)
                    self._lowest[claim.tenant] = min(known, claim.priority)
        return self._lowest.get(tenant, 2**31)

    def _below(self, tenant: str) -> bool:
        """Tell whether a tenant has less than it is entitled to."""
        entitled = self._books.entitled.get(tenant, 0.0)
        return self._books.allocated[tenant] < entitled - _SMALL

    def _fill(self, claim: Claim) -> bool:
        """Grant one more replica of the room that is left of what was made for another."""
        books, useful = self._books, self._below(claim.tenant) or self._owed(claim)
        if not useful or not any(self._spent.values()):
            return False
        for name in books.options(claim):
            allowed = books.allowed(claim, name) and self._reserve.leaves(claim, name)
            elastic = books.pools[name].spec.elastic
            if allowed and not elastic and booked(books, claim, name):
                books.give(claim, name)
                self._reserve.took(claim, name)
                self._candidates().took((), claim)
                return True
        return False

    def _owed(self, claim: Claim) -> bool:
        """Tell whether one more replica is within the tenant's quota anywhere."""
        return any(self._books.owed(claim, pool) for pool in self._books.options(claim))

    def _take_for(self, claim: Claim) -> bool:
        """Make room for one more replica; tell whether that was possible."""
        found = self._best(claim)
        if found is None:
            return False
        books, coming = self._books, 0.0
        resource = books.pools[found.pool].spec.resource_name
        for victim in found.victims:
            shape = victim.claim.shapes[victim.holding.pool]
            books.take(victim.claim, victim.holding)
            books.free.release(found.node, shape.need, resource)
            gpus = books.gpus_in(victim.claim, victim.holding.pool)
            coming += gpus
        self._spent[found.pool] += coming
        self._reserve.took(claim, found.pool, coming)
        books.free.book(found.node, claim.shapes[found.pool].need, resource)
        books.give(claim, found.pool)
        self._candidates().took(found.victims, claim)
        return True

    def _best(self, claim: Claim) -> _Move | None:
        """Return the best way to make room: of all nodes that can be better, or of many in a large fleet."""
        books, best, found = self._books, None, list[tuple[Bound, Pool, Node]]()
        for place, name in enumerate(books.options(claim)):
            pool = books.pools[name]
            if not pool.spec.elastic:
                nodes = self._candidates().of(claim, pool, place, self._terms(claim, pool))
                found += [(bound, pool, node) for bound, node in nodes]
        ranked = sorted(found, key=lambda f: f[0])
        for looked, (bound, pool, node) in enumerate(ranked):
            if best is not None and (bound > best.rank[:4] or looked >= MOST_NODES):
                break
            move = self._move(claim, pool, bound[2], node)
            if move is not None and (best is None or move.rank < best.rank):
                best = move
        return best

    def _terms(self, claim: Claim, pool: Pool) -> Terms:
        """Return what one more replica may cost others, as far as that does not depend on them."""
        books, mine, name = self._books, claim.tenant, pool.name
        one, never = books.charge(claim, name), float("inf")
        first = self._untouched[name] and not self._spent[name]
        budget = never if first else self._budget[name] - self._spent[name]
        owed, worth = books.owed(claim, name), books.missing(claim) * books.gpus_in(claim, name)
        takes, turns = self._takes(mine), self._turns(mine)
        return Terms(
            owed=owed,
            own_only=self._over(claim, pool) > _SMALL,
            after=books.share(mine, one) - _SMALL if takes else never,
            turn=TURN * books.level(mine, one) - _SMALL if turns else never,
            most=never if owed else min(budget, MOVED_PER_GAINED * worth),
        )

    def _move(self, claim: Claim, pool: Pool, place: int, node: Node) -> _Move | None:
        """Return how a node makes room, or None where it can't."""
        there = self._there(node.name)
        if not there or bar(node, claim.shapes[pool.name]) is not None:
            return None
        victims = self._enough(claim, pool, self._books.free.free(node, pool), there)
        if not victims:
            return None
        return _Move(pool.name, node.name, victims, self._rank(victims, place, node.name))

    def _candidates(self) -> Candidates:
        if self._looked is None:
            there = [v for of in self._victims().values() for v in of]
            known = [v for v in there if v.holding.pool in self._books.pools]
            self._looked = Candidates(self._books, known, RUN_TIME)
        return self._looked

    def _victims(self) -> Mapping[str, Sequence[Victim]]:
        """Return all replicas by node."""
        if self._by_node is None:
            found: dict[str, list[Victim]] = defaultdict(list)
            for claim in self._books.claims:
                for victim in claim.victims:
                    found[str(victim.holding.node)].append(victim)
            self._by_node = dict(found)
        return self._by_node

    def _there(self, node: str) -> Sequence[Victim]:
        """Return the replicas on a node, those that are to go first in front."""
        return sorted(self._victims().get(node, ()), key=self._order)

    def _order(self, victim: Victim) -> tuple[object, ...]:
        books, claim, holding = self._books, victim.claim, victim.holding
        last = books.total(claim) <= 1
        share = -books.share(claim.tenant)
        return last, share, claim.priority, holding.worth, -holding.created, holding.id

    def _enough(
        self, claim: Claim, pool: Pool, free: Amounts, there: Sequence[Victim]
    ) -> tuple[Victim, ...] | None:
        """Return the replicas of one node that make room together, or None where none may."""
        books, owed = self._books, self._books.owed(claim, pool.name)
        start = room = _Room(free, self._over(claim, pool))
        chosen: list[Victim] = []
        for victim in there:
            if self._fits(claim, pool, room) and self._leaves(claim, pool, room):
                break
            # At its limit, a tenant makes room for its own only.
            mine = victim.claim.tenant == claim.tenant
            open_to_all = mine or room.over <= _SMALL
            if open_to_all and self._may_go(claim, pool, victim, chosen, owed=owed):
                chosen.append(victim)
                room = self._with(claim, pool, room, victim)
        if not self._fits(claim, pool, room):
            return None
        chosen = self._needed(claim, pool, chosen, room)
        if not chosen:
            return None
        room = start
        for victim in chosen:
            room = self._with(claim, pool, room, victim)
        gained = _times(room.free, claim.shapes[pool.name].need, books.missing(claim))
        if not owed and not self._affordable(claim, pool, room, gained):
            return None
        return tuple(chosen)

    def _fits(self, claim: Claim, pool: Pool, room: _Room) -> bool:
        """Tell whether a replica fits, on the node and within the tenant's limit."""
        return room.over <= _SMALL and room.free.covers(claim.shapes[pool.name].need)

    def _leaves(self, claim: Claim, pool: Pool, room: _Room) -> bool:
        """Tell whether what is kept for others stays free."""
        return self._reserve.leaves(claim, pool.name, room.coming)

    def _with(self, claim: Claim, pool: Pool, room: _Room, victim: Victim, sign: int = 1) -> _Room:
        """Return a room with the place of a replica; with a sign of -1 without it."""
        need = victim.claim.shapes[victim.holding.pool].need
        return _Room(
            room.free + need if sign > 0 else room.free - need,
            room.over - sign * self._own(claim, pool, victim),
            room.coming + sign * self._books.gpus_in(victim.claim, victim.holding.pool),
        )

    def _over(self, claim: Claim, pool: Pool) -> float:
        """Return the GPUs by which one more replica would exceed the tenant's limit."""
        books, accelerator = self._books, pool.spec.accelerator
        gpus = books.gpus_in(claim, pool.name)
        most = books.tenants[claim.tenant].most(accelerator)
        return books.gpus[claim.tenant, accelerator] + gpus - most if gpus else 0.0

    def _own(self, claim: Claim, pool: Pool, victim: Victim) -> float:
        """Return the GPUs that a tenant's limit allows again once its own replica is gone."""
        there = self._books.pools[victim.holding.pool]
        same = there.spec.accelerator == pool.spec.accelerator
        mine = same and victim.claim.tenant == claim.tenant
        return self._books.gpus_in(victim.claim, there.name) if mine else 0.0

    def _needed(
        self, claim: Claim, pool: Pool, chosen: Sequence[Victim], room: _Room
    ) -> list[Victim]:
        """Return those without whom there would be no room."""
        kept = list(chosen)
        for victim in chosen:
            less = self._with(claim, pool, room, victim, sign=-1)
            leaves = self._leaves(claim, pool, less) or not self._leaves(claim, pool, room)
            if leaves and self._fits(claim, pool, less):
                kept.remove(victim)
                room = less
        return kept

    def _affordable(self, claim: Claim, pool: Pool, room: _Room, gained: int) -> bool:
        """Tell whether the pool's budget allows it, and it moves no more than it is worth.

        ``gained``: replicas of the taker that the room is for; where one large replica goes, several
        small ones come.
        """
        if not self._leaves(claim, pool, room):
            return False
        worth = gained * self._books.gpus_in(claim, pool.name)
        if room.coming > MOVED_PER_GAINED * worth + _SMALL:
            return False
        first = self._untouched[pool.name] and not self._spent[pool.name]
        return first or self._spent[pool.name] + room.coming <= self._budget[pool.name] + _SMALL

    def _may_go(
        self, taker: Claim, pool: Pool, victim: Victim, others: Sequence[Victim], *, owed: bool
    ) -> bool:
        """Tell whether a replica may be taken, beside ``others`` that are taken already."""
        books, claim, holding = self._books, victim.claim, victim.holding
        if self._untouchable(taker, pool, victim):
            return False
        rested = books.now - holding.created >= RUN_TIME * claim.load_seconds
        if claim.tenant == taker.tenant:
            return rested and claim.priority < taker.priority
        accelerator = books.pools[holding.pool].spec.accelerator
        also = [v for v in others if v.claim.tenant == claim.tenant]
        gpus = sum(books.gpus_in(v.claim, v.holding.pool) for v in (*also, victim))
        kept = books.gpus[claim.tenant, accelerator] - gpus
        if kept < books.tenants[claim.tenant].quota.get(accelerator, 0.0) - _SMALL:
            return False
        if owed:
            return True
        lost = sum(books.charge(v.claim, v.holding.pool) for v in (*also, victim))
        return rested and self._fair(taker, pool, claim.tenant, lost)

    def _untouchable(self, taker: Claim, pool: Pool, victim: Victim) -> bool:
        """Tell whether a replica is out of the question, whatever the shares are."""
        books, claim, holding = self._books, victim.claim, victim.holding
        there = books.pools[holding.pool].spec
        other = there.resource_name != pool.spec.resource_name
        return (
            claim.key == taker.key
            or holding.id in books.gone[claim.key]
            or not books.tenants[claim.tenant].preemptible
            # Devices of another resource are not those that are looked for.
            or (other and claim.shapes[holding.pool].need.gpus > 0)
        )

    def _fair(self, taker: Claim, pool: Pool, victim: str, lost: float) -> bool:
        books, mine = self._books, taker.tenant
        one = books.charge(taker, pool.name)
        after = books.share(mine, one)
        if self._takes(mine) and books.share(victim, -lost) >= after - _SMALL:
            within = after <= 1.0 + _SMALL or books.share(victim, -lost) >= 1.0 - _SMALL
            if within or books.allocated[mine] <= _SMALL:
                return True
        # Its turn is about all that it gets of the place, or two would swap at once and again.
        gained = max(1, min(books.missing(taker), int((lost + _SMALL) / one))) if one > 0 else 1
        turn = TURN * books.level(mine, gained * one)
        return self._turns(mine) and books.level(victim) >= turn - _SMALL

    def _takes(self, tenant: str) -> bool:
        """Tell whether a tenant is far enough below its entitlement to take."""
        return self._below(tenant) and self._has_begun(tenant)

    def _turns(self, tenant: str) -> bool:
        """Tell whether a tenant waits for its turn."""
        return self._below(tenant) and self._books.allocated[tenant] <= _SMALL

    def _has_begun(self, tenant: str) -> bool:
        """Tell whether a tenant is on its way to its entitlement, or too far from it not to begin."""
        known = self._begun.get(tenant)
        if known is None:
            books = self._books
            known = books.share(tenant) < NEARLY or any(
                books.now - holding.created < RUN_TIME * claim.load_seconds
                for claim in books.of(tenant)
                for holding in claim.held
            )
            self._begun[tenant] = known
        return known

    def _rank(
        self, victims: Sequence[Victim], place: int, node: str
    ) -> tuple[int, float, int, float, int, float, str]:
        """Return what ways to make room are ordered by: the least harm first, then by name."""
        books = self._books
        last = sum(books.total(v.claim) <= 1 for v in victims)
        gpus = sum(books.gpus_in(v.claim, v.holding.pool) for v in victims)
        share = -max(books.share(v.claim.tenant) for v in victims)
        priority = max(v.claim.priority for v in victims)
        newest = -max(v.holding.created for v in victims)
        return last, gpus, place, share, priority, newest, node


def _times(room: Amounts, need: Amounts, most: int) -> int:
    """Return how many replicas fit into a room, at most ``most``."""
    found = 0
    while found < most and room.covers(need):
        room, found = room - need, found + 1
    return found


def _kind(claim: Claim) -> object:
    """Return what services have in common for whom the same could be done."""
    needs = tuple((name, shape.need, shape.suits) for name, shape in claim.shapes.items())
    return claim.tenant, claim.priority, claim.pools, needs


def _budget(pool: Pool) -> float:
    """Return the GPUs of a pool that may be taken at a time."""
    text = pool.spec.disruption_budget
    if not text.endswith("%"):
        return float(text)
    gpus = sum(round(n.allocatable.get(pool.spec.resource_name, 0.0)) for n in pool.nodes)
    return pool.gpus_of(gpus) * float(text[:-1]) / 100.0
