"""``make bench-main-job``: how long the main job takes, into build/bench/main-job.json.

First answers: from ``kubectl apply`` of a ModelService to its first answered request, images on
the nodes, for each sample on each pool. Then the demo, warm, which also tells how long scaling
over both nodes and back took.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from e2e.bench.first_answer import FirstAnswer, measure
from e2e.bench.report import ROOT, Unmet, write
from e2e.cluster.progress import terminal_reporter
from e2e.install import Stage, ensure_stage
from e2e.models import DIGITS, TUMOR, documents
from e2e.scratch import scratch

APPLIES = 3
POOLS = {"A100": "a100", "T4": "t4"}
FIRST_ANSWER_S, DEMO_WARM_S = 10.0, 180.0
DEMO_TIMEOUT_S = 900.0

Figures = dict[str, Any]


def main() -> int:
    """Measure, print and write."""
    console = Console()
    stage = ensure_stage(terminal_reporter())
    stage.tools.apply(*documents("pools.yaml"))
    answers = first_answers(stage, console)
    show_answers(console, answers)
    figures: Figures = {
        "first_answer_s": worst_medians(answers),
        "first_answer_all_s": by_sample(answers),
        "first_answer_stages_s": [asdict(a) for a in answers],
        **demo(console),
    }
    unmet = unmet_goals(figures)
    show(console, figures, unmet)
    console.print(f"Written: {write('main-job', figures, unmet).relative_to(ROOT)}")
    return 0


def first_answers(stage: Stage, console: Console) -> list[FirstAnswer]:
    """Measure every sample on every pool, in turns, so that no one has the quiet moments."""
    runs = [(s, p) for _ in range(APPLIES) for s in (DIGITS, TUMOR) for p in POOLS.values()]
    with scratch(stage, "bench-first-answer") as place, Progress(console=console) as progress:
        place.use_samples()
        return [measure(place, *run) for run in progress.track(runs, description="first answers")]


def by_sample(answers: Iterable[FirstAnswer]) -> dict[str, dict[str, list[float]]]:
    """Return all seconds by pool and sample."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in POOLS}
    shown = {pool: name for name, pool in POOLS.items()}
    for answer in answers:
        times = found[shown[answer.pool]].setdefault(answer.sample, [])
        times.append(round(answer.seconds, 2))
    return found


def worst_medians(answers: Iterable[FirstAnswer]) -> dict[str, float]:
    """Return by pool the median of the sample that took longest."""
    return {
        pool: round(max(median(times) for times in samples.values()), 2)
        for pool, samples in by_sample(answers).items()
    }


def demo(console: Console) -> Figures:
    """Run the demo as a user does; return its figures in seconds."""
    started = monotonic()
    with console.status("the demo, warm"), TemporaryDirectory() as folder:
        figures = Path(folder, "figures.json")
        done = subprocess.run(
            [sys.executable, "-m", "e2e.demo", "--figures", str(figures)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=DEMO_TIMEOUT_S,
            check=False,
        )
        seconds = monotonic() - started
        if done.returncode != 0:
            raise SystemExit(f"the demo failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        told = json.loads(figures.read_text())
    return {"demo_warm_s": round(seconds, 1), **{k: round(v, 1) for k, v in told.items()}}


def unmet_goals(figures: Figures) -> list[Unmet]:
    """Return the goals that were not reached."""
    goals = [
        (f"first answer on {pool} within {FIRST_ANSWER_S:g} s", seconds, FIRST_ANSWER_S)
        for pool, seconds in figures["first_answer_s"].items()
    ]
    warm = figures["demo_warm_s"]
    goals.append((f"make demo, warm, under {DEMO_WARM_S:g} s", warm, DEMO_WARM_S))
    return [Unmet(goal, f"{figure:g} s") for goal, figure, bound in goals if figure > bound]


def show_answers(console: Console, answers: list[FirstAnswer]) -> None:
    """Print each first answer and where its time went."""
    table = Table("sample", "pool", "first answer", "when each stage was seen, in s since apply")
    for answer in answers:
        stages = ", ".join(f"{stage} {at:.1f}" for stage, at in answer.stages.items())
        table.add_row(answer.sample, answer.pool, f"{answer.seconds:.1f} s", stages)
    console.print(table)


def show(console: Console, figures: Figures, unmet: list[Unmet]) -> None:
    """Print the figures and what was not reached."""
    summary = Table("figure", "seconds")
    for pool, seconds in figures["first_answer_s"].items():
        summary.add_row(f"first answer, {pool}: worst sample's median", f"{seconds:g}")
    for name in ("demo_warm_s", "scale_up_s", "scale_down_s"):
        summary.add_row(name.removesuffix("_s").replace("_", " "), f"{figures[name]:g}")
    console.print(summary)
    for goal in unmet:
        console.print(f"[bold red]Not reached:[/] {goal.goal}: {goal.figure}")


if __name__ == "__main__":
    sys.exit(main())
