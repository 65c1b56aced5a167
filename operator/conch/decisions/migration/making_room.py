"""Defragmentation: small replicas leave a node so that one that waits fits there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

from conch.api.migration import MoveReason
from conch.decisions.fleet import Amounts, Node, Pool, Shape
from conch.decisions.migration.books import Step
from conch.decisions.migration.plan import Because
from conch.decisions.migration.rules import MOVED_PER_GAINED, amount, units
from conch.decisions.migration.run import Proposal, Run, total
from conch.decisions.migration.view import Option, Replica, Waiting
from conch.decisions.placement import bar

MOST_KINDS = 16
"""Kinds of waiting replicas that are tried in one run; the others have their turn in the next."""
TURN_S = 5.0
"""Seconds after which others of too many have their turn."""
MOST_NODES = 16
"""Nodes that are looked at closely for one replica: those where the fewest GPUs have to move."""
MOST_SETS = 8
"""Sets of replicas that are tried on one node, the least disturbing first."""
MOST_MOVES = 8
"""Replicas that leave a node for one that waits."""
EXACT = 8
"""Replicas of a node up to which all sets are compared; of more, the small and the large ones."""
_SMALL = 1e-9


@dataclass(frozen=True, slots=True)
class _Chance:
    """A node that could be made to take a replica that waits."""

    moved: float
    """GPUs that have to move at least."""
    place: int
    """Of its pool in the order of the service."""
    node: Node
    pool: Pool
    option: Option
    free: Amounts
    there: tuple[Replica, ...]
    """Those that may leave."""

    @property
    def rank(self) -> tuple[float, int, str]:
        return self.moved, self.place, self.node.name


def make_room(run: Run) -> None:
    """Propose moves by which replicas that wait get a place, in their order."""
    kinds = list(dict.fromkeys(_kind(w) for w in run.fleet.waiting))
    tried, failed = _turn(kinds, run.now), dict[object, tuple[Because, str]]()
    for waiting in run.fleet.waiting:
        kind = _kind(waiting)
        if kind not in tried:
            run.contested |= {o.pool for o in waiting.options}
            continue
        for _ in range(waiting.count):
            if kind not in failed and (why := _one(run, waiting)) is not None:
                failed[kind] = why
            if kind in failed:
                run.no_room(waiting.service, *failed[kind])
                run.contested |= {o.pool for o in waiting.options}
                break


def _kind(waiting: Waiting) -> object:
    """Return what those have in common for whom the same could be done."""
    return tuple((o.pool, o.shape.need, o.shape.suits) for o in waiting.options)


def _turn(kinds: Sequence[object], now: float) -> set[object]:
    if len(kinds) <= MOST_KINDS:
        return set(kinds)
    # A prime, so that none is left out for ever, however often this is asked.
    start = int(now // TURN_S) * 7919 % len(kinds)
    return set([*kinds[start:], *kinds[:start]][:MOST_KINDS])


def _one(run: Run, waiting: Waiting) -> tuple[Because, str] | None:
    """Find room for one replica; return why there is none, or None."""
    if comes_free(run, waiting):
        return None
    best, nodes = None, 0
    for chance in _chances(run, waiting):
        nodes += 1
        if nodes > MOST_NODES or (best is not None and chance.moved >= best[0] - _SMALL):
            break
        found = _rehomed(run, chance)
        if found is not None and (best is None or found[0] < best[0] - _SMALL):
            best = *found, chance
    if best is None:
        where = "no node" if not nodes else f"none of {min(nodes, MOST_NODES)} nodes"
        return Because.NO_PLACE, f"{where} can be made to take it: what is there has no other place"
    return _propose(run, waiting, best[2], best[1])


def comes_free(run: Run, waiting: Waiting) -> bool:
    """Tell whether one that waits finds room without more moves; keep that room for it.

    It is free already, or comes free by moves under way, or an autoscaler brings it.
    """
    for option in waiting.options:
        pool = run.fleet.pool_of.get(option.pool)
        if pool is None:
            continue
        if pool.spec.elastic:
            return True
        found = next(run.books.after.fitting(pool, option.shape), None)
        if found is not None:
            run.reserve(waiting.service, pool, found[0].name, option)
            return True
    return False


def _chances(run: Run, waiting: Waiting) -> list[_Chance]:
    """Return the nodes that enough replicas might leave, where the fewest GPUs move first."""
    found = []
    for place, option in enumerate(waiting.options):
        pool = run.fleet.pool_of.get(option.pool)
        for node in pool.nodes if pool is not None else ():
            chance = _chance(run, option, place, node)
            if chance is not None:
                found.append(chance)
    return sorted(found, key=lambda c: c.rank)


def _chance(run: Run, option: Option, place: int, node: Node) -> _Chance | None:
    pool, shape = run.fleet.pool_of[option.pool], option.shape
    there = run.movable(node.name)
    if not there:
        return None
    free = run.books.after.free(node, pool)
    moved = pool.gpus_of(max(0, shape.need.gpus - max(0, free.gpus)))
    if moved > MOVED_PER_GAINED * units(pool, shape) + _SMALL or bar(node, shape) is not None:
        return None
    if node.signs:
        # What waits may get such a place, but nobody moves for it.
        return None
    if not _frees(run, pool, there, free).covers(shape.need):
        return None
    return _Chance(moved, place, node, pool, option, free, there)


def _frees(run: Run, pool: Pool, replicas: Sequence[Replica], free: Amounts) -> Amounts:
    """Return what is free on a node once replicas have left it, in the devices of a pool."""
    for one in replicas:
        free += _given(run, pool, one)
    return free


def _given(run: Run, pool: Pool, replica: Replica) -> Amounts:
    need = replica.shape.need
    other = run.fleet.pool_of[replica.pool].spec.resource_name
    same = other == pool.spec.resource_name
    return need if same else Amounts(0, need.cpu, need.memory, need.pods)


def _rehomed(run: Run, chance: _Chance) -> tuple[float, tuple[Replica, ...]] | None:
    """Return the least GPUs that have to move, with the replicas, where all have another place."""
    for leaving in islice(_sets(run, chance), MOST_SETS):
        steps = _book(run, chance, leaving)
        if steps is not None:
            run.books.undo(steps)
            return sum(map(run.scales.units, leaving)), leaving
    return None


def _sets(run: Run, chance: _Chance) -> Iterator[tuple[Replica, ...]]:
    """Yield sets of replicas whose leaving is enough, the least disturbing first."""
    units_of, need = run.scales.units, chance.option.shape.need
    most = MOVED_PER_GAINED * units(chance.pool, chance.option.shape) + _SMALL
    found = []
    for leaving in _choices(run, chance):
        moved = sum(map(units_of, leaving))
        if moved <= most and _frees(run, chance.pool, leaving, chance.free).covers(need):
            disturbed = sum(map(run.scales.disruption, leaving))
            names = tuple(r.uid for r in leaving)
            found.append(((moved, disturbed, len(leaving), names), leaving))
    found.sort(key=lambda f: f[0])
    yield from (leaving for _, leaving in found)


def _choices(run: Run, chance: _Chance) -> Iterator[tuple[Replica, ...]]:
    """Yield all sets of a few replicas; of many, those of the smallest and of the largest."""
    there = sorted(chance.there, key=lambda r: (run.scales.disruption(r), r.service, r.pod))
    if len(there) <= EXACT:
        sizes = range(1, min(MOST_MOVES, len(there)) + 1)
        yield from (c for size in sizes for c in combinations(there, size))
        return
    yield from ((one,) for one in there)
    for size in range(2, MOST_MOVES + 1):
        yield tuple(there[:size])
        yield tuple(there[-size:])


def _book(run: Run, chance: _Chance, leaving: Sequence[Replica]) -> tuple[Step, ...] | None:
    """Book another place for each of the replicas, the largest first; None where one has none."""
    steps: list[Step] = []
    for one in sorted(leaving, key=lambda r: (-run.scales.units(r), r.service, r.pod)):
        step = _other_place(run, one, chance.node.name)
        if step is None:
            run.books.undo(steps)
            return None
        steps.append(step)
    return tuple(steps)


def _other_place(run: Run, one: Replica, away_from: str) -> Step | None:
    """Book a place in its own pool, or in another that is no slower."""
    service = run.fleet.services[one.service]
    mine = service.by_pool.get(one.pool) or Option(one.pool, one.shape)
    others = [o for o in service.options if o.pool != one.pool and o.speed >= mine.speed]

    def allowed(node: Node) -> bool:
        return node.name != away_from

    for option in (mine, *others):
        pool = run.fleet.pool_of.get(option.pool)
        if pool is not None and (step := run.place(one, option, allowed)) is not None:
            return step
    return None


def _propose(
    run: Run, waiting: Waiting, chance: _Chance, leaving: Sequence[Replica]
) -> tuple[Because, str] | None:
    steps = _book(run, chance, leaving)
    if steps is None:
        return Because.NO_PLACE, f"{chance.node.name} can't be made to take it"
    pool, shape = chance.pool, chance.option.shape
    gained = units(pool, shape)
    # The proof: it is there in the books once all are through.
    if not _fits(run, chance.node, pool, shape):
        run.books.undo(steps)
        return Because.NO_PLACE, f"{chance.node.name} would not have room for it"
    promise = (
        f"{waiting.service} ({amount(gained, pool)}) waits and fits on {chance.node.name} then"
    )
    worth = run.scales.worth(total(steps), gained, pool.name)
    reason = MoveReason.DEFRAGMENTATION
    why = run.judge(Proposal(reason, steps, worth, promise, waiting.service))
    if why is not None:
        return why[0], f"no room is made on {chance.node.name}: {why[1]}"
    run.reserve(waiting.service, pool, chance.node.name, chance.option)
    return None


def _fits(run: Run, node: Node, pool: Pool, shape: Shape) -> bool:
    return run.books.after.free(node, pool).covers(shape.need)
