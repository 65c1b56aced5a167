"""Races scaling policies on recorded traces, with load times of real models.

Run: ``python -m e2e.bench.scaling``, or with ``--full`` all test days and five seeds; ``--part
tune`` is for whoever tunes. Writes build/bench/scaling.json and scaling.png.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from conch.simulate.policies import PolicyError, parse
from e2e.bench.report import FOLDER, ROOT, write
from e2e.bench.scaling_plot import draw
from e2e.bench.scaling_runs import LOAD_TIMES, POLICIES, Sums, Task, rows, run_all, tasks
from e2e.bench.scaling_traces import SOURCES, missing
from e2e.bench.scaling_verdict import Point, Row, Verdict, points, unmet_goals, verdicts

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
        traces=options.traces,
        load_times=options.load_times,
        policies=options.policies,
        seeds=range(options.seeds),
        days=options.days,
        tune=options.part == "tune",
    )
    found = rows(_results(console, todo, options.workers))
    judged = verdicts(found)
    unmet = unmet_goals(judged)
    show(console, found, judged)
    for goal in unmet:
        console.print(f"[bold red]Not reached:[/] {goal.goal}: {goal.figure}")
    picture = FOLDER / f"{options.name}.png"
    draw(picture, found)
    figures = {
        "rows": found,
        "part": options.part,
        "days": options.days,
        "seconds": round(time.monotonic() - started, 1),
    }
    path = write(options.name, figures, unmet)
    console.print(f"Written: {path.relative_to(ROOT)}, {picture.relative_to(ROOT)}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.scaling", description=__doc__)
    names = [s.name for s in SOURCES]
    add = parser.add_argument
    add("--full", action="store_true", help="all test days and five seeds")
    add("--part", choices=("tune", "test"), default="test")
    add("--traces", nargs="+", choices=names, default=names, metavar="TRACE")
    add("--load-times", nargs="+", choices=LOAD_TIMES, default=LOAD_TIMES, metavar="TIME")
    add("--policies", nargs="+", default=POLICIES, metavar="POLICY")
    add("--days", type=int, help="of traces of days; 1 unless --full")
    add("--seeds", type=int, help="1 unless --full")
    add("--workers", type=int, default=len(os.sched_getaffinity(0)))
    add("--name", default="scaling", help="of the files below build/bench")
    options = parser.parse_args()
    options.days = options.days or (7 if options.full else 1)
    options.seeds = options.seeds or (5 if options.full else 1)
    for policy in options.policies:
        try:
            parse(policy)
        except PolicyError as error:
            parser.error(str(error))
    return options


def _results(console: Console, todo: Sequence[Task], workers: int) -> list[tuple[Task, Sums]]:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    results = []
    with bar:
        progress = bar.add_task("", total=len(todo))
        for task, sums in run_all(todo, workers):
            results.append((task, sums))
            bar.update(
                progress, advance=1, description=f"{task.trace}, {task.load_time}, {task.policy}"
            )
            if not console.is_terminal and len(results) % 20 == 0:
                console.print(f"{len(results)} of {len(todo)} simulations")
    return results


def show(console: Console, found: Sequence[Row], judged: Sequence[Verdict]) -> None:
    """Print cost and late requests of all, then how Conch's default stands."""
    groups = points(found)
    names = list(dict.fromkeys(p.name for group in groups.values() for p in group))
    table = Table("cost ÷ clairvoyant, late %", *(f"{t}\n{load}" for t, load in groups), box=None)
    for name in names:
        table.add_row(name, *(_cell(name, group) for group in groups.values()))
    Console(width=max(console.width, 30 + 14 * len(groups)), highlight=False).print(table)
    stand = Table("trace", "load time", "Conch's default", "verdict", box=None)
    for verdict in judged:
        stand.add_row(verdict.trace, verdict.load_time, _figure(verdict.conch), _words(verdict))
    console.print(stand)


def _cell(name: str, group: Sequence[Point]) -> str:
    return next((_figure(p) for p in group if p.name == name), "-")


def _figure(point: Point) -> str:
    return f"{point.cost:.2f} {point.late:.3g}%"


def _words(verdict: Verdict) -> str:
    if verdict.dominating:
        return f"[red]dominated by {', '.join(p.name for p in verdict.dominating)}[/]"
    if verdict.fewer_late:
        return f"[red]fewer late: {', '.join(p.name for p in verdict.fewer_late)}[/]"
    return "[green]nothing beats it[/]"


if __name__ == "__main__":
    sys.exit(main())
