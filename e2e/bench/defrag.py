"""``make bench-defrag``: what moving replicas gains on a fleet that fills up and falls to pieces.

Work comes and leaves on the 1,213 nodes of Alibaba's GPU trace for a day, then each policy has the
next ten hours on the same arrivals: none moves nothing, karpenter and karpenter-balanced
consolidate by eviction, conch is the operator's own planner. Into build/bench/defrag.json. What counts is the GPUs of waiting work
that got its place the moment moves were through, since it fitted nowhere before; and what that cost.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from conch.decisions.migration.rules import MOVED_PER_GAINED
from e2e.bench.defrag_plot import draw
from e2e.bench.defrag_policies import POLICIES
from e2e.bench.defrag_runs import Outcome, Task, run_all
from e2e.bench.placement_trace import missing
from e2e.bench.report import FOLDER, ROOT, Unmet, write

_USAGE = 2
BASELINES = ("karpenter", "karpenter-balanced")


@dataclass(frozen=True)
class Row:
    """Means over the seeds, but for the ratio, which is one of sums."""

    policy: str
    gpus_recovered: float
    moves: float
    moved_per_gained: float | None
    """GPUs moved for each that was recovered; None: moved for nothing."""
    gpus_moved: float
    fragmented_gpus_regained: float
    down_replica_seconds: float
    gpus_with_work: float
    gpus_waiting: float
    gpus_fragmented: float
    gpus_turned_away: float


def row(policy: str, runs: Sequence[Outcome]) -> Row:
    """Return the figures of a policy."""
    recovered, moved = sum(o.recovered for o in runs), sum(o.moved for o in runs)
    ratio = round(moved / recovered, 3) if recovered else None
    return Row(
        policy=policy,
        gpus_recovered=round(recovered / len(runs), 1),
        moves=round(fmean(o.moves for o in runs), 1),
        moved_per_gained=ratio if moved else 0.0,
        gpus_moved=round(moved / len(runs), 1),
        fragmented_gpus_regained=round(fmean(o.regained for o in runs), 1),
        down_replica_seconds=round(fmean(o.down for o in runs), 1),
        gpus_with_work=round(fmean(o.mean_taken for o in runs), 1),
        gpus_waiting=round(fmean(fmean(o.waiting) for o in runs), 1),
        gpus_fragmented=round(fmean(fmean(o.fragmented) for o in runs), 2),
        gpus_turned_away=round(fmean(o.turned_away for o in runs), 1),
    )


def main() -> int:
    """Run the benchmark; the exit status is 0 also where goals are missed, which it prints."""
    options = _options()
    console = Console(highlight=False)
    absent = missing()
    if absent is not None:
        print(absent, file=sys.stderr)
        return _USAGE
    started = time.monotonic()
    found = _results(console, options)
    rows = {policy: row(policy, runs) for policy, runs in found.items()}
    unmet = unmet_goals(rows)
    show(console, rows)
    for goal in unmet:
        console.print(f"[bold red]Not reached:[/] {goal.goal}: {goal.figure}")
    picture = FOLDER / "defrag.png"
    draw(picture, found)
    figures = {
        "rows": [vars(r) for r in rows.values()],
        "seeds": options.seeds,
        "load": options.load,
        "hours": options.hours,
        "baseline": baseline(rows).policy,
        "moved_per_gained_cap": MOVED_PER_GAINED,
        "seconds": round(time.monotonic() - started, 1),
    }
    path = write("defrag", figures, unmet)
    console.print(f"Written: {path.relative_to(ROOT)}, {picture.relative_to(ROOT)}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.defrag", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="take each so many of the nodes")
    parser.add_argument("--load", type=float, default=0.95, help="GPUs asked for, of all")
    parser.add_argument("--warm", type=float, default=24.0, help="hours before policies begin")
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def _results(console: Console, options: argparse.Namespace) -> dict[str, list[Outcome]]:
    todo = [
        Task(policy, seed, options.every, options.warm, options.hours, options.load)
        for seed in range(options.seeds)
        # The slowest first.
        for policy in list(POLICIES)[::-1]
    ]
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    results: dict[Task, Outcome] = {}
    with bar:
        progress = bar.add_task("", total=len(todo))
        for task, outcome in run_all(todo, options.workers):
            results[task] = outcome
            bar.update(progress, advance=1, description=f"{task.policy}, seed {task.seed}")
            if not console.is_terminal:
                console.print(f"{len(results)} of {len(todo)}: {task.policy}, seed {task.seed}")
    return {p: [results[t] for t in todo if t.policy == p] for p in POLICIES}


def baseline(rows: Mapping[str, Row]) -> Row:
    """Return the better of those that evict."""
    return max((rows[name] for name in BASELINES), key=lambda r: r.gpus_recovered)


def unmet_goals(rows: Mapping[str, Row]) -> list[Unmet]:
    """Return the goals that were not reached."""
    conch, other = rows["conch"], baseline(rows)
    unmet = []
    if conch.gpus_recovered <= other.gpus_recovered:
        figure = f"{conch.gpus_recovered} against {other.gpus_recovered}"
        unmet.append(Unmet(f"Conch recovers more GPUs than {other.policy}", figure))
    if conch.moved_per_gained is None or conch.moved_per_gained > MOVED_PER_GAINED:
        goal = f"at most {MOVED_PER_GAINED:g} GPUs moved for each gained"
        unmet.append(Unmet(goal, str(conch.moved_per_gained)))
    if conch.gpus_with_work < rows["none"].gpus_with_work:
        figure = f"{conch.gpus_with_work} against {rows['none'].gpus_with_work}"
        unmet.append(Unmet("more GPUs have work than where nothing moves", figure))
    return unmet


def show(console: Console, rows: Mapping[str, Row]) -> None:
    """Print the figures, and how they stand to the baseline's."""
    table, base = Table("policy", box=None), baseline(rows)
    titles = ("recovered", "÷ base", "moves", "moved", "each", "down", "working", "away")
    for title in titles:
        table.add_column(title, justify="right")
    for one in rows.values():
        per = "-" if one.moved_per_gained is None else f"{one.moved_per_gained:.2f}"
        table.add_row(
            one.policy,
            f"{one.gpus_recovered:.1f}",
            f"{one.gpus_recovered / base.gpus_recovered:.2f}" if base.gpus_recovered else "-",
            f"{one.moves:.1f}",
            f"{one.gpus_moved:.1f}",
            per,
            f"{one.down_replica_seconds:.0f}",
            f"{one.gpus_with_work:.1f}",
            f"{one.gpus_turned_away:.1f}",
        )
    console.print(table)
    for line in (
        "GPUs, means of the seeds. recovered: waiting work that got its place the moment",
        f"moves were through; ÷ base: over that of {base.policy}; moved: by moves;",
        f"each: moved for each recovered, by the planner's rule at most {MOVED_PER_GAINED:g}; down: replica-",
        "seconds without an answer; working: with work; away: of work that waited too long.",
    ):
        console.print(line)


if __name__ == "__main__":
    sys.exit(main())
