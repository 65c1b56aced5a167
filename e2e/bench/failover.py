"""``make bench-failover``: how long a cluster is without decisions, into build/bench/failover.json.

Two operators as processes of their own on a real API server; nodes and pods are played by kwok. The
leader is killed in the middle of its work, or stopped in order; measured until the other's first
decision.
"""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from rich.console import Console

from e2e.bench.report import ROOT, Unmet, write
from tests.kit.control_plane import Cluster
from tests.kit.fleet import simulated
from tests.kit.proxy import wait_for
from tests.kit.rivals import Rival, first_decision, rivals, served, services

FAILOVER_S = 10.0
WORK_WRITES = 20
PATIENCE_S = 600.0
Figures = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args(arguments)
    console = Console()
    with TemporaryDirectory(prefix="conch-bench-") as folder:
        figures = measure(Path(folder), options.services, options.runs, console)
    unmet = [
        Unmet(f"{name} <= {FAILOVER_S:.0f}", f"{figures[name]:.1f}")
        for name in ("killed_to_decision_s", "killed_at_work_to_decision_s")
        if figures[name] > FAILOVER_S
    ]
    console.print(figures)
    console.print(f"Written: {write('failover', figures, unmet).relative_to(ROOT)}")
    return 0


def measure(folder: Path, count: int, runs: int, console: Console) -> Figures:
    """Return the worst and the median seconds of each way in which a leader ends."""
    found: dict[str, list[float]] = {}
    (folder / "cluster").mkdir()
    with simulated(folder / "cluster") as cluster:
        for run in range(runs):
            for name, end, busy in (
                ("killed_at_work_to_decision_s", kill, True),
                ("killed_to_decision_s", kill, False),
                ("stopped_to_decision_s", stop, False),
            ):
                seconds = once(cluster, folder, count if busy else 0, end)
                console.print(f"run {run + 1}: {name} {seconds:.1f}")
                found.setdefault(name, []).append(seconds)
    worst = {name: round(max(times), 1) for name, times in found.items()}
    typical = {f"{name}_median": round(median(times), 1) for name, times in found.items()}
    return {"services": count * runs, **worst, **typical}


def once(cluster: Cluster, folder: Path, more: int, end: Callable[[Rival], None]) -> float:
    """End a leader, in the middle of providing for ``more`` services, and wait for the other."""
    with rivals(cluster, folder) as (first, other):
        namespace = cluster.new_namespace() if more else ""
        if more:
            services(cluster.client, namespace, more)
            wait_for(lambda: first.sent >= WORK_WRITES, "the leader at work", timeout=PATIENCE_S)
        started = monotonic()
        end(first)
        first_decision(other, timeout=PATIENCE_S)
        seconds = monotonic() - started
        if more:
            wait_for(
                lambda: served(cluster.client, namespace) == more, "all done", timeout=PATIENCE_S
            )
    return seconds


def kill(rival: Rival) -> None:
    """As a crash does."""
    rival.operator.kill()


def stop(rival: Rival) -> None:
    """As Kubernetes stops a pod."""
    rival.operator.send(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
