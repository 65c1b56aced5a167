"""Compares how policies share a fleet between tenants, on recorded workloads.

Run: ``python -m e2e.bench.fairness``. Writes build/bench/fairness.json and fairness.png.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from e2e.bench.fairness.figures import WINDOW, Figures
from e2e.bench.fairness.flood import FLOOD_TICK, Recovery
from e2e.bench.fairness.plot import draw
from e2e.bench.fairness.runs import (
    LOADS,
    POLICIES,
    WORKLOADS,
    Task,
    paired,
    rows,
    run_all,
    tasks,
)
from e2e.bench.fairness.scene import LOAD_SECONDS
from e2e.bench.fairness.verdict import Goal, goals
from e2e.bench.fairness.workloads import DAY, PHILLY_EVERY, missing
from e2e.bench.report import FOLDER, ROOT, write

_USAGE = 2


def main() -> int:
    """Run the benchmark; the exit status is 0 also where goals are missed, which it prints."""
    options = _options()
    console = Console(highlight=False)
    absent = missing()
    if absent is not None:
        print(absent, file=sys.stderr)
        return _USAGE
    started = time.monotonic()
    todo = tasks(
        options.workloads,
        options.loads,
        options.policies,
        span=options.days * DAY,
        tick=options.tick,
        every=options.every,
    )
    found = paired(_results(console, todo, options.workers))
    table = rows(found)
    judged = goals(table)
    show(console, table)
    show_goals(console, judged)
    picture = FOLDER / f"{options.name}.png"
    draw(picture, found)
    figures = {
        "rows": table,
        "days": options.days,
        "tick_s": options.tick,
        "philly_every": options.every,
        "flood_tick_s": FLOOD_TICK,
        "load_s": LOAD_SECONDS,
        "shares": [
            {
                "workload": place[0],
                "load": place[1],
                "policy": policy,
                "windows": _windows(one.figures),
            }
            for place, group in found.items()
            for policy, one in group.items()
        ],
        "seconds": round(time.monotonic() - started, 1),
    }
    path = write(options.name, figures, [g.unmet() for g in judged if not g.met])
    console.print(f"Written: {path.relative_to(ROOT)}, {picture.relative_to(ROOT)}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.fairness", description=__doc__)
    add = parser.add_argument
    add("--workloads", nargs="+", choices=WORKLOADS, default=WORKLOADS, metavar="WORKLOAD")
    add("--loads", nargs="+", type=float, default=LOADS, metavar="LOAD")
    add("--policies", nargs="+", choices=POLICIES, default=POLICIES, metavar="POLICY")
    add("--days", type=float, default=3.0, help="of each workload; whole windows of 6 h")
    add("--tick", type=float, default=60.0, help="seconds")
    add("--every", type=int, default=PHILLY_EVERY, help="of the jobs of Philly, by tenant")
    add("--workers", type=int, default=len(os.sched_getaffinity(0)))
    add("--name", default="fairness", help="of the files below build/bench")
    options = parser.parse_args()
    if options.every < 1:
        parser.error("--every: at least 1")
    if options.days <= 0 or options.days * DAY % WINDOW:
        parser.error("--days: a number of windows of 6 h, such as 0.25 or 3")
    if options.tick <= 0 or WINDOW % options.tick:
        parser.error("--tick: seconds that divide 6 h, such as 60")
    return options


def _results(
    console: Console, todo: Sequence[Task], workers: int
) -> list[tuple[Task, Figures | Recovery]]:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    results = []
    with bar:
        progress = bar.add_task("", total=len(todo))
        for task, result in run_all(todo, workers):
            results.append((task, result))
            what = f"{task.workload} at {task.load:g}, {task.policy}"
            bar.update(progress, advance=1, description=what)
            if not console.is_terminal and len(results) % 10 == 0:
                console.print(f"{len(results)} of {len(todo)} simulations")
    return results


def show(console: Console, table: Sequence[Mapping[str, Any]]) -> None:
    """Print all rows."""
    shown = Table(
        "workload",
        "load",
        "policy",
        *("Jain 6 h\nmean", "\nworst", "\nwhole", "worst ÷\nstatic, %", "preempted\nper GPU-h"),
        *("used", "÷ fifo", "recovery\nin L"),
        box=None,
    )
    last = None
    for row in table:
        place = row["workload"], row["load"]
        if last not in (None, place):
            shown.add_row()
        last = place
        shown.add_row(row["workload"], f"{row['load']:g}", *_cells(row))
    Console(width=max(console.width, 110), highlight=False).print(shown)


def _cells(row: Mapping[str, Any]) -> list[str]:
    times = row["recovery_load_times"]
    return [
        f"[bold]{row['policy']}[/]" if row["policy"] == "conch" else row["policy"],
        f"{row['jain_6h']:.3f}",
        f"{row['jain_6h_worst']:.3f}",
        f"{row['jain_whole']:.3f}",
        f"{row['worst_vs_static_percent']:+.2f}",
        f"{row['preemptions_per_gpu_hour']:.4f}",
        f"{row['utilisation']:.3f}",
        f"{row['utilisation_vs_fifo']:.3f}",
        f"never ({row['recovered_share']:.0%})" if times is None else f"{times:.2f}",
    ]


def show_goals(console: Console, judged: Sequence[Goal]) -> None:
    """Print every goal with its figure."""
    for goal in judged:
        verdict = "[green]met[/]        " if goal.met else "[bold red]not reached[/]"
        where = f"{goal.workload} at {goal.load:g}"
        console.print(f"{verdict} {where}: {goal.goal}: {goal.figure}")


def _windows(figures: Figures) -> list[dict[str, float]]:
    return [{t: round(x, 3) for t, x in window.items()} for window in figures.shares]


if __name__ == "__main__":
    sys.exit(main())
