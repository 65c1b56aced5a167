"""Accelerator: a pool that the user prefers has room, a faster one is needed, a cheaper one will do."""

from conch.api.migration import MoveReason
from conch.decisions.fleet import Node
from conch.decisions.migration.books import Step
from conch.decisions.migration.plan import Because
from conch.decisions.migration.rules import rest_seconds, units
from conch.decisions.migration.run import Proposal, Run, total
from conch.decisions.migration.view import MovableService, Option, Replica

MARGIN = 0.7
"""Of the objective, and of the time: what a slower accelerator has to stay below by what is known now.
A faster one is asked for above 1, so that an error of less than 30 % of the prediction leads to no
way back."""
REMEMBERED_S = 86400.0
"""For so long a pool that was too slow for a service is not tried again: loads repeat by the day."""
Found = tuple[Because, str]


def change(run: Run) -> None:
    """Propose moves to other pools, service by service."""
    for key in sorted(run.fleet.services):
        service = run.fleet.services[key]
        if len(service.options) > 1:
            for option in service.options:
                _towards(run, service, option)


def _towards(run: Run, service: MovableService, option: Option) -> None:
    """Propose to move replicas to one pool: all of those that have a reason, or none."""
    there = run.fleet.by_service.get(service.key, ())
    rest = [r for r in there if r.uid not in run.fleet.moving and wanted(service, r, option)]
    steps: list[Step] = []
    for one in rest:
        found = _step(run, service, one, option)
        if isinstance(found, Step):
            steps.append(found)
            continue
        run.refuse(MoveReason.ACCELERATOR, one, *found)
        # A few of them elsewhere would gain little: the service had two kinds to care for.
        run.books.undo(steps)
        return
    for step in steps:
        _judge(run, service, step)


def _step(run: Run, service: MovableService, one: Replica, option: Option) -> Step | Found:
    why = run.never(one) or unsuited(run, service, one, option)
    if why is not None:
        return why
    if option.pool in run.contested:
        return Because.WAITING_FIRST, f"others wait for room in pool {option.pool}"
    step = run.place(one, option, _anywhere)
    if step is None and run.fleet.pool_of[option.pool].spec.elastic:
        step = Step(one, option, None)
        run.books.start(step)
    return step or (Because.NO_PLACE, f"pool {option.pool} has no room for all that would move")


def _anywhere(_: Node) -> bool:
    return True


def wanted(service: MovableService, one: Replica, option: Option) -> bool:
    """Tell whether there is any reason to look at a pool for a replica, without metrics."""
    mine = service.by_pool.get(one.pool)
    if mine is None or option.pool == one.pool or option.rank > mine.rank:
        return False
    missed = service.late is not None and service.late > 1
    return (
        option.rank < mine.rank or (missed and option.speed > mine.speed) or saved(mine, option) > 0
    )


def saved(mine: Option, other: Option) -> float:
    """Return the share of a replica's price that another pool saves; 0 where a price is not known."""
    if not mine.price or other.price is None:
        return 0.0
    return max(0.0, 1 - other.price / mine.price)


def unsuited(run: Run, service: MovableService, one: Replica, option: Option) -> Found | None:
    """Return why a replica should rather stay than move to a pool, or None."""
    mine = service.by_pool[one.pool]
    if option.pool not in run.fleet.pool_of:
        return Because.NO_PLACE, f"pool {option.pool} is not there"
    missed = service.too_slow.get(option.pool)
    if missed is not None and run.now - missed < REMEMBERED_S:
        return Because.LITTLE_GAIN, f"{run.now - missed:.0f} s ago pool {option.pool} was too slow"
    if option.rank < mine.rank:
        return _slower(service, mine, option)
    return _sustained(run, service, one) or _predicted(service, mine, option)


def _predicted(service: MovableService, mine: Option, option: Option) -> Found | None:
    """Return why a faster pool would not be fast enough, or a cheaper one too slow; or None."""
    if service.late is None or service.late <= 1:
        return _slower(service, mine, option)
    then = service.late * mine.speed / option.speed
    if then <= 1:
        return None
    return Because.LITTLE_GAIN, f"pool {option.pool} would still be at {then:.2f} of its objective"


def _slower(service: MovableService, mine: Option, option: Option) -> Found | None:
    """Return why a slower pool would not do, or None."""
    ratio = mine.speed / option.speed
    if ratio <= 1:
        return None
    if service.late is None or service.busy is None:
        known = "latency" if service.late is None else "use"
        return Because.NO_DATA, f"pool {option.pool} is slower, and nothing is known of its {known}"
    late, busy = service.late * ratio, service.busy * ratio
    if late <= MARGIN and busy <= MARGIN:
        return None
    text = f"in pool {option.pool} it would be at {late:.2f} of its objective and {busy:.0%} busy"
    return Because.LITTLE_GAIN, f"{text}, more than {MARGIN:g}"


def _sustained(run: Run, service: MovableService, one: Replica) -> Found | None:
    """Return why too little is known, or for too short a time, or None."""
    if service.late is None:
        return Because.NO_DATA, "nothing is known of its latency"
    if service.steady_since is None:
        return Because.NO_DATA, "it is not known for how long it has been so"
    known, rest = run.now - service.steady_since, rest_seconds(one)
    if known >= rest:
        return None
    return Because.LITTLE_GAIN, f"it has been so for {known:.0f} s only, of {rest:.0f} s"


def _judge(run: Run, service: MovableService, step: Step) -> None:
    one, option = step.replica, step.option
    mine = service.by_pool[one.pool]
    size, share = units(run.fleet.pool_of[one.pool], one.shape), saved(mine, option)
    if option.rank < mine.rank:
        gained, why = size, f"the user prefers pool {option.pool} to {one.pool}"
    elif service.late is not None and service.late > 1:
        then = service.late * mine.speed / option.speed
        gained = size
        why = f"at {service.late:.2f} of its objective; pool {option.pool} promises {then:.2f}"
    else:
        gained, why = size * share, f"pool {option.pool} costs {share:.0%} less and is enough"
    worth = run.scales.worth(total([step]), gained, one.pool)
    run.judge(Proposal(MoveReason.ACCELERATOR, (step,), worth, why))
