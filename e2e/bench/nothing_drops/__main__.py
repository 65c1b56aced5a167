"""``make bench-nothing-drops``: migrations, rollouts, drains and kills under load, and what failed.

Real Triton on the local cluster, HTTP and gRPC on kept-alive connections, clients that never try again.
Writes build/bench/nothing-drops.json.
"""

import argparse
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from e2e.bench.front_door.door import Door, front_door
from e2e.bench.front_door.flow import Flow, Outcomes, quantile
from e2e.bench.front_door.load import Load
from e2e.bench.nothing_drops.acts import (
    BAD,
    MOMENTS,
    PHASES,
    ROLLED,
    SERVICES,
    Acts,
    Window,
    prepare,
)
from e2e.bench.nothing_drops.plot import plot
from e2e.bench.report import FOLDER, ROOT, Unmet, write
from e2e.cluster.progress import terminal_reporter
from e2e.install import ensure_stage
from e2e.models import documents
from e2e.scratch import Scratch, scratch

Figures = dict[str, Any]
PLACE = "bench-nothing-drops"
LONGEST_S = 3000.0
MOST_P99 = 1.2
MOST_BAD = 5.0


@dataclass(frozen=True)
class Pace:
    """How much is done."""

    migrations: int = 20
    rollouts: int = 8
    """Good ones; two bad ones come on top."""
    changes: int = 20
    drains: int = 3
    neighbours: int = 6
    requests: int = 100_000
    rate: float = 25.0
    """Requests a second of each flow, of which there are six."""
    kills: bool = True


QUICK = Pace(2, 1, 2, 1, 1, 2_000, 15.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    words = argparse.ArgumentParser(prog="python -m e2e.bench.nothing_drops")
    words.add_argument("--quick", action="store_true", help="a tenth of it")
    given = words.parse_args(arguments)
    console = Console()
    stage = ensure_stage(terminal_reporter(console))
    if not stage.cluster.local:
        raise SystemExit("It kills processes of pods: it runs on the local cluster only.")
    stage.tools.apply(*documents("pools.yaml"))
    with scratch(stage, PLACE) as place, front_door(place) as door:
        figures, outcomes, windows = measure(place, door, QUICK if given.quick else Pace(), console)
    unmet = [*_unmet(figures, quick=given.quick)]
    _show(console, figures, unmet)
    name = "nothing-drops-quick" if given.quick else "nothing-drops"
    console.print(f"Written: {write(name, figures, unmet).relative_to(ROOT)}")
    picture = plot(FOLDER / f"{name}.png", outcomes, windows)
    console.print(f"Drawn: {picture.relative_to(ROOT)}")
    return 0


def measure(
    place: Scratch, door: Door, pace: Pace, console: Console
) -> tuple[Figures, list[Outcomes], list[Window]]:
    """Do all of it under load; return the figures, what came of all requests, and when what was done."""
    prepare(place)
    door.await_ready()
    flows = list(_flows(place, door, pace))
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    total = pace.migrations + pace.rollouts + 2 + pace.changes + pace.drains + pace.neighbours
    with Progress(*columns, console=console) as progress, Load(*flows) as load:
        task = progress.add_task("begins", total=total)

        def tell(what: str) -> None:
            text = f"{what}; {load.tally.sent} asked, {load.tally.wrong} wrong"
            progress.update(task, advance=1, description=text)
            if not console.is_terminal:
                console.print(text, highlight=False)

        acts = Acts(place, door, load, tell)
        load.more_answers(200)
        _all(acts, pace)
        while load.tally.sent < pace.requests:
            load.more_answers(500, within=120)
            progress.update(task, description=f"{load.tally.sent} asked, {load.tally.wrong} wrong")
    return _figures(load.outcomes, acts), load.outcomes, acts.windows


def _flows(place: Scratch, door: Door, pace: Pace) -> Iterable[Flow]:
    for name in SERVICES:
        for protocol in ("http", "grpc"):
            yield door.flow(
                f"{name} {protocol}",
                place.namespace,
                name,
                protocol,
                rate=pace.rate,
                seconds=LONGEST_S,
                connections=4,
            )


def _all(acts: Acts, pace: Pace) -> None:
    """Do everything, in an order that is drawn once: kills in each phase first among their kind."""
    phases = [*PHASES] if pace.kills else []
    moments = [*MOMENTS] if pace.kills else []
    kinds = {
        "migrate": pace.migrations,
        "roll": pace.rollouts,
        "size": pace.changes,
        "drain": pace.drains,
        "neighbour": pace.neighbours,
    }
    line = [kind for kind, count in kinds.items() for _ in range(count)]
    random.Random(1).shuffle(line)
    two = True
    acts.roll()
    line.remove("roll")
    for kind in line:
        if kind == "migrate":
            if not two and not acts.may_migrate():
                acts.size(1)
                two = True
            acts.migrate(killed_in=phases.pop(0) if phases else None)
        elif kind == "roll":
            acts.roll(killed_at=moments.pop(0) if moments else None)
        elif kind == "size":
            acts.size(2 if two else 1)
            two = not two
        elif kind == "drain":
            if not two:
                # Each node holds four replicas, and all have to be on one meanwhile.
                acts.size(1)
                two = True
            acts.drain()
        else:
            if not acts.may_have_neighbour():
                acts.migrate()
            acts.neighbour()
    for name, code in BAD.items():
        acts.roll_back(name, code)


def _figures(outcomes: Sequence[Outcomes], acts: Acts) -> Figures:
    blamed = [w for w in acts.windows if w.what.startswith("bad")]
    wrong = [(o.name, *row) for o in outcomes for row in o.wrong_ones()]
    mine = [w for w in wrong if w[0].startswith(ROLLED) and _within(w[1], blamed)]
    moves = ("migration", "rollout", "scale change", "drain")
    during = _latencies(outcomes, [w for w in acts.windows if w.what in moves])
    beside = _latencies(outcomes, [w for w in acts.windows if w.what == "neighbour"])
    return {
        "requests": sum(o.sent for o in outcomes),
        "failed": len(wrong) - len(mine),
        "canary_failed": len(mine),
        "migrations": acts.done.get("migration", 0),
        "rollouts": acts.done.get("rollout", 0) + len(blamed),
        "rolled_back": len(acts.endings),
        "scale_changes": acts.done.get("scale change", 0),
        "drains": acts.done.get("drain", 0),
        "operator_kills": acts.kills,
        "p99_ratio": round(quantile(during, 0.99) / quantile(beside, 0.99), 3),
        "p99_ms_moving": round(1e3 * quantile(during, 0.99), 2),
        "p99_ms_beside_a_start": round(1e3 * quantile(beside, 0.99), 2),
        "bad_canary_percent": round(_met(outcomes, blamed, acts.met), 2),
        "told": [e["message"] for e in acts.endings],
        "wrong": [f"{name}: {what}" for name, _, _, what in wrong][:20],
        "by_flow": {o.name: o.summary() for o in outcomes},
    }


def _within(at: float, windows: Iterable[Window]) -> bool:
    return any(w.began <= at <= w.ended + 1.0 for w in windows)


def _latencies(outcomes: Iterable[Outcomes], windows: Sequence[Window]) -> list[float]:
    """Return the seconds of requests that were asked meanwhile, of the service that it was done to."""
    found = []
    for one in outcomes:
        mine = [w for w in windows if one.name.startswith(w.service)]
        rows = zip(one.began, one.ended, one.what, strict=True)
        found += [e - b for b, e, what in rows if what == "right" and _within(b, mine)]
    return sorted(found)


def _met(
    outcomes: Iterable[Outcomes], windows: Sequence[Window], met: Mapping[str, float]
) -> float:
    """Return the greatest share of the service's requests that met a bad canary, in percent.

    Of all that were asked between its start and its end.
    """
    shares = [0.0]
    for window, count in zip(windows, met.values(), strict=True):
        asked = sum(
            window.began <= b <= window.ended
            for o in outcomes
            if o.name.startswith(ROLLED)
            for b in o.began
        )
        shares.append(100.0 * count / max(1, asked))
    return max(shares)


def _unmet(figures: Figures, *, quick: bool) -> Iterable[Unmet]:
    if figures["failed"]:
        yield Unmet("0 failed", str(figures["failed"]))
    if figures["rolled_back"] != len(BAD):
        yield Unmet("two bad rollouts taken back", str(figures["rolled_back"]))
    if figures["p99_ratio"] > MOST_P99:
        yield Unmet(f"p99 at most {MOST_P99} times", str(figures["p99_ratio"]))
    if figures["bad_canary_percent"] > MOST_BAD:
        yield Unmet(
            f"a bad canary meets at most {MOST_BAD:g} %", str(figures["bad_canary_percent"])
        )
    if not quick and figures["operator_kills"] < len(PHASES) + len(MOMENTS):
        yield Unmet("the operator killed in each phase", str(figures["operator_kills"]))
    if not quick and figures["requests"] < Pace().requests:
        yield Unmet("100,000 requests", str(figures["requests"]))


def _show(console: Console, figures: Figures, unmet: Sequence[Unmet]) -> None:
    table = Table("figure", "value")
    for name, value in figures.items():
        if isinstance(value, int | float):
            table.add_row(name, str(value))
    console.print(table)
    for text in figures["wrong"]:
        console.print(text)
    for goal in unmet:
        console.print(f"[bold red]Not reached:[/] {goal.goal}: {goal.figure}")


if __name__ == "__main__":
    sys.exit(main())
