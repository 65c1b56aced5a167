"""``make bench-plan``: what a decision on a whole fleet costs, into build/bench/plan.json.

Gathering, scaling, sharing and placing as the operator's loop does them, without its writes, for
fleets of growing size under contention; each in a process of its own.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from e2e.bench.plan_fleet import Size
from e2e.bench.plan_plot import draw
from e2e.bench.plan_run import Figures, Step, measured
from e2e.bench.plan_tick import PARTS
from e2e.bench.report import FOLDER, ROOT, Unmet, write

SIZES = {500: 50, 1000: 50, 2000: 20, 5000: 20}
"""Services, and the ticks that are measured with so many."""
TICK_S, MEMORY_MB = 1.0, 400.0
LINEAR = 1.25
"""Times the time per service of the smallest fleet that counts as linear: two runs differ as much."""


def main() -> int:
    """Measure, print and write; the exit status is 0 also where goals are missed."""
    words = argparse.ArgumentParser(prog="python -m e2e.bench.plan", description=__doc__)
    words.add_argument("--services", type=int, nargs="+", default=sorted(SIZES), metavar="N")
    words.add_argument("--ticks", type=int, help="that are measured of each size")
    words.add_argument("--one", action="store_true", help="measure here, one line of JSON a step")
    given = words.parse_args()
    if given.one:
        return one(Size(given.services[0]), given.ticks)
    console = Console(highlight=False)
    rows = _rows(console, {n: given.ticks or SIZES.get(n, 30) for n in sorted(given.services)})
    unmet = unmet_goals(rows)
    show(console, rows, unmet)
    picture = FOLDER / "plan.png"
    draw(picture, rows)
    path = write("plan", {"rows": rows}, unmet)
    console.print(f"Written: {path.relative_to(ROOT)}, {picture.relative_to(ROOT)}")
    return 0


def one(size: Size, ticks: int) -> int:
    """Measure one size in this process; tell each step, and the figures, as a line of JSON."""
    for told in measured(size, ticks):
        line = {"step": [told.what, told.done, told.of]} if isinstance(told, Step) else told
        print(json.dumps(line), flush=True)
    return 0


def _rows(console: Console, todo: Mapping[int, int]) -> list[Figures]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    rows = []
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        for services, ticks in todo.items():
            bar = progress.add_task(f"{services} services")
            for told in _told(services, ticks):
                if "step" in told:
                    what, done, of = told["step"]
                    name = f"{services} services: {what}"
                    progress.update(bar, description=name, completed=done, total=of)
                else:
                    rows.append(told)
            done = f"{services} services: p99 {rows[-1]['tick_p99_s']:g} s"
            progress.update(bar, description=done, completed=1, total=1)
            if not console.is_terminal:
                console.print(done)
    return rows


def _told(services: int, ticks: int) -> Iterator[Figures]:
    """Yield what a process says that measures one size."""
    argv = [sys.executable, "-m", "e2e.bench.plan", "--one"]
    argv += ["--services", str(services), "--ticks", str(ticks)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield from map(json.loads, process.stdout or ())
    if process.returncode:
        raise SystemExit(f"measuring {services} services ended with {process.returncode}")


def growth(rows: Sequence[Figures], name: str) -> list[float]:
    """Return how much of a figure comes on each service, against the smallest fleet's."""
    first = rows[0][name] / rows[0]["services"]
    return [row[name] / row["services"] / first for row in rows]


def unmet_goals(rows: Sequence[Figures]) -> list[Unmet]:
    """Return the goals that were not reached."""
    found = []
    for row, times in zip(rows, growth(rows, "tick_p50_s"), strict=True):
        fleet = f"{row['services']} services"
        if row["tick_p99_s"] >= TICK_S:
            told = f"{row['tick_p99_s']:g} s (of the CPU {row['tick_cpu_p99_s']:g} s)"
            found.append(Unmet(f"{fleet}: p99 of a tick below {TICK_S:g} s", told))
        if row["rss_mb"] >= MEMORY_MB:
            found.append(Unmet(f"{fleet}: below {MEMORY_MB:g} MB", f"{row['rss_mb']:g} MB"))
        if times > LINEAR:
            told = f"{times:.2f} times the time per service of the smallest fleet"
            found.append(Unmet(f"{fleet}: time grows no more than linearly", told))
    return found


def show(console: Console, rows: Sequence[Figures], unmet: Sequence[Unmet]) -> None:
    """Print the fleets, what a tick costs there, and what was not reached."""
    fleets = Table("services", title="Fleets", box=None)
    for name in ("nodes", "tenants", "GPUs", "replicas", "wished, %", "waiting"):
        fleets.add_column(name, justify="right")
    for row in rows:
        numbers = [row[n] for n in ("nodes", "tenants", "gpus", "replicas")]
        asked = f"{row['gpus_wished']:.0%}", str(row["replicas_waiting"])
        fleets.add_row(str(row["services"]), *map(str, numbers), *asked)
    console.print(fleets)
    table = Table("services", title="A tick, in ms", box=None)
    heads = ("p99", "p50", "CPU p50", *PARTS, "at rest", "first", "x per service", "RSS, MB")
    for head in heads:
        table.add_column(head, justify="right")
    for row, times in zip(rows, growth(rows, "tick_p50_s"), strict=True):
        spans = [row["tick_p99_s"], row["tick_p50_s"], row["tick_cpu_p50_s"]]
        spans += [*(row["parts_s"][p] for p in PARTS), row["rest_tick_s"], row["first_tick_s"]]
        figures = [*(f"{1e3 * s:.0f}" for s in spans), f"{times:.2f}", f"{row['rss_mb']:.0f}"]
        table.add_row(str(row["services"]), *figures)
    console.print(table)
    for goal in unmet:
        console.print(f"[bold red]Not reached:[/] {goal.goal}: {goal.figure}")


if __name__ == "__main__":
    sys.exit(main())
