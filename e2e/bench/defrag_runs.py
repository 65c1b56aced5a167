"""Runs of the benchmark of migrations: each policy on the same arrivals, from the same start."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from statistics import fmean

from e2e.bench.defrag_fleet import Fleet, arrivals, empty
from e2e.bench.defrag_policies import POLICIES, Policy

TICK_S = 120.0
"""Between two decisions. A load time is shorter: what begins at one is through by the next."""
HOUR_S = 3600.0


@dataclass(frozen=True)
class Task:
    """A policy, with the fleet and the time that it is tried on."""

    policy: str
    seed: int
    every: int
    warm_h: float
    hours: float
    load: float


@dataclass
class Outcome:
    """What came of it, from when the policy began."""

    recovered: int = 0
    """GPUs of waiting work that got its place the moment moves were through: it fitted nowhere
    before, and nothing else had changed."""
    regained: float = 0.0
    """GPUs by which moves lowered fragmentation, before anything was placed there."""
    moves: int = 0
    moved: int = 0
    down: float = 0.0
    turned_away: int = 0
    taken: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    fragmented: list[float] = field(default_factory=list)

    @property
    def mean_taken(self) -> float:
        """GPUs with work, on average."""
        return fmean(self.taken)


def run(task: Task) -> Outcome:
    """Return what a policy does to the fleet."""
    fleet, found = empty(task.every), Outcome()
    policy = POLICIES[task.policy]()
    end = (task.warm_h + task.hours) * HOUR_S
    todo = arrivals(task.seed, gpus=fleet.capacity, load=task.load, seconds=end)[::-1]
    now, turned_away = 0.0, 0
    while now < end:
        now += TICK_S
        measured = now > task.warm_h * HOUR_S
        if measured:
            _finish(fleet, policy, found, now)
        kept = fleet.hold(policy.keep(fleet))
        fleet.leave(now)
        while todo and todo[-1].arrives <= now:
            fleet.waiting.append(todo.pop())
        fleet.admit(now)
        fleet.give_back(kept)
        if measured:
            found.fragmented.append(fleet.fragmented())
            found.taken.append(fleet.taken)
            found.waiting.append(sum(w.gpus for w in fleet.waiting))
            policy.act(fleet, now)
        else:
            turned_away = fleet.turned_away
    found.moves, found.moved, found.down = policy.moves, policy.moved, policy.down
    found.turned_away = fleet.turned_away - turned_away
    return found


def _finish(fleet: Fleet, policy: Policy, found: Outcome, now: float) -> None:
    """End the moves of the last tick, and count what they gained: nothing else happens meanwhile."""
    policy.finish(fleet, now)
    if found.fragmented:
        found.regained += found.fragmented[-1] - fleet.fragmented()
    found.recovered += fleet.admit(now)


def run_all(todo: Sequence[Task], workers: int) -> Iterator[tuple[Task, Outcome]]:
    """Yield each task with what came of it, as they are done."""
    # Forked processes of a process with threads may hang: rich's progress has one.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(run, task): task for task in todo}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)
