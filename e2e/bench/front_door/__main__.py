"""``make bench-front-door``: the front door's figures, into build/bench/front-door.json.

Real Triton on the local cluster, kept-alive connections, clients that never try again. With
``--only`` some parts alone, into a file of their own.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from e2e.bench.front_door import burst, changes, compare, goals, kills, many, nginx
from e2e.bench.front_door.door import Door, front_door
from e2e.bench.front_door.flow import Outcomes
from e2e.bench.front_door.models import pool
from e2e.bench.front_door.plot import plot
from e2e.bench.report import FOLDER, ROOT, Unmet, write
from e2e.cluster.progress import terminal_reporter
from e2e.install import Stage, ensure_stage
from e2e.kubectl import wait_for
from e2e.scratch import Scratch, scratch

Figures = dict[str, Any]
Tell = Callable[[str, float], None]
PLACE = "bench-front-door"


@dataclass
class Run:
    """One run: how large it is, and what it found."""

    console: Console
    quick: bool
    figures: Figures = field(default_factory=dict)
    ways: dict[str, list[Outcomes]] = field(default_factory=dict)
    changed: list[Outcomes] = field(default_factory=list)

    def take(self, found: Figures) -> None:
        """Add figures; what several parts tell of one thing stands together."""
        for name, value in found.items():
            before = self.figures.get(name)
            both = isinstance(before, dict) and isinstance(value, dict)
            self.figures[name] = {**(before or {}), **value} if both else value

    def on_cluster(self, part: str, stage: Stage) -> None:
        """Measure a part on the local cluster, in a namespace that goes with it."""
        name = f"{PLACE}-{part}"
        with (
            pool(stage),
            scratch(stage, name) as place,
            front_door(place) as door,
            telling(self.console, part) as tell,
        ):
            self.take(PARTS[part](self, place, door, tell))
        await_empty(stage, name)

    def alone(self) -> None:
        """Measure many services, against an API server of their own."""
        with telling(self.console, MANY) as tell:
            pace = many.QUICK if self.quick else many.Pace()
            self.take(many.measure(pace, tell))


def _compare(run: Run, place: Scratch, door: Door, tell: Tell) -> Figures:
    pace = compare.QUICK if run.quick else compare.Pace()
    found, run.ways = compare.measure(place, door, pace, tell)
    return found


def _changes(run: Run, place: Scratch, door: Door, tell: Tell) -> Figures:
    pace = changes.QUICK if run.quick else changes.Pace()
    found, run.changed = changes.measure(place, door, pace, tell)
    return found


PARTS: dict[str, Callable[[Run, Scratch, Door, Tell], Figures]] = {
    "compare": _compare,
    "changes": _changes,
    "kills": lambda _, place, door, tell: kills.measure(place, door, tell),
    "burst": lambda _, place, door, tell: burst.measure(place, door, tell),
}
MANY = "many"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    words = argparse.ArgumentParser(
        prog="python -m e2e.bench.front_door", description=__doc__.splitlines()[0]
    )
    parts = [*PARTS, MANY]
    words.add_argument("--only", nargs="+", choices=parts, metavar="PART", help=", ".join(parts))
    words.add_argument("--quick", action="store_true", help="fewer and shorter")
    given = words.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    console = Console()
    run = Run(console, given.quick)
    measure(run, given.only or parts)
    unmet = goals.unmet(run.figures)
    show(console, run.figures, unmet)
    name = "-".join(["front-door", *(given.only or ()), *(["quick"] if given.quick else [])])
    console.print(f"Written: {write(name, run.figures, unmet).relative_to(ROOT)}")
    if picture := plot(FOLDER / f"{name}.png", run.ways, run.changed):
        console.print(f"Drawn: {picture.relative_to(ROOT)}")
    return 0


def measure(run: Run, parts: Sequence[str]) -> None:
    """Measure parts one after the other."""
    on_cluster = [p for p in PARTS if p in parts]
    if on_cluster:
        report = terminal_reporter(run.console)
        stage = ensure_stage(report)
        if not stage.cluster.local:
            raise SystemExit("It kills processes of pods: it runs on the local cluster only.")
        nginx.load(stage, report)
        for part in on_cluster:
            run.on_cluster(part, stage)
    if MANY in parts:
        run.alone()


def _interrupt(*_: object) -> None:
    """End, once: what is there is removed, and another signal does not stop that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def telling(console: Console, part: str) -> Iterator[Tell]:
    """Show a part's progress."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(part, total=1.0)

        def tell(what: str, share: float) -> None:
            progress.update(task, description=f"{part}: {what}", completed=share)
            if not console.is_terminal:
                console.print(f"{part}: {what}", highlight=False)

        yield tell
        progress.update(task, description=part, completed=1.0)


def await_empty(stage: Stage, namespace: str) -> None:
    """Wait until the pods of a namespace are gone, for the next part wants their room."""
    wait_for(
        f"the end of {namespace}",
        lambda: not stage.tools.list("pods", "-n", namespace),
        timeout=120,
    )


def show(console: Console, figures: Figures, unmet: Sequence[Unmet]) -> None:
    """Print the figures that stand for the others, and what was not reached."""
    table = Table("figure", "value")
    for name, value in figures.items():
        if isinstance(value, dict):
            plain = {k: v for k, v in value.items() if isinstance(v, int | float)}
            for inner, each in plain.items():
                table.add_row(f"{name}: {inner}", str(each))
        else:
            table.add_row(name, str(value))
    console.print(table)
    for goal in unmet:
        console.print(f"[bold red]Not reached:[/] {goal.goal}: {goal.figure}")


if __name__ == "__main__":
    sys.exit(main())
