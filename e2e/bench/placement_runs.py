"""Runs of the placement benchmark: each policy places the pods of each seed."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

from e2e.bench.placement_bound import least_unallocated_percent
from e2e.bench.placement_policies import POLICIES
from e2e.bench.placement_trace import Pod, cluster, drawn, shares

BOUND = "bound"
"""Stands for a policy that nothing can beat."""


@dataclass(frozen=True)
class Task:
    """One policy and one seed."""

    policy: str
    seed: int


def run(task: Task) -> float:
    """Return the share of GPUs that stays unallocated, in percent."""
    nodes = cluster()
    todo = drawn(task.seed, nodes.capacity)
    if task.policy == BOUND:
        return least_unallocated_percent(nodes, todo)
    return place(task.policy, todo, seed=task.seed)


def place(policy: str, todo: Sequence[Pod], *, seed: int) -> float:
    """Return the share that stays unallocated once a policy has placed pods as they come."""
    nodes = cluster()
    chooser = POLICIES[policy](shares(), nodes, seed)
    for pod in todo:
        spot = chooser.choose(pod)
        if spot is not None:
            nodes.take(spot, pod)
            chooser.changed(spot.node)
    return 100.0 * (1.0 - nodes.taken / nodes.capacity)


def run_all(todo: Sequence[Task], workers: int) -> Iterator[tuple[Task, float]]:
    """Yield each task with its figure, as they are done."""
    # Forked processes of a process with threads may hang: rich's progress has one.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(run, task): task for task in todo}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)
