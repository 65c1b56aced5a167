"""Draws what a decision costs by the size of the fleet: seconds part by part, and memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from e2e.bench.plan_tick import PARTS


def draw(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a picture of the rows."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    time, memory = figure.subplots(1, 2)
    services = [row["services"] for row in rows]
    time.stackplot(
        services, [[row["parts_s"][p] for row in rows] for p in PARTS], labels=PARTS, alpha=0.6
    )
    time.plot(services, [row["tick_p99_s"] for row in rows], "k.-", label="p99 of a tick")
    time.plot(services, [row["rest_tick_s"] for row in rows], "k.:", label="at rest")
    time.set(xlabel="services", ylabel="seconds (medians of the parts)", xlim=(0, None))
    time.set_ylim(bottom=0)
    time.legend(fontsize=8)
    memory.plot(services, [row["rss_mb"] for row in rows], ".-")
    memory.set(xlabel="services", ylabel="resident memory, MB", xlim=(0, None))
    memory.set_ylim(bottom=0)
    for panel in (time, memory):
        panel.grid(visible=True, linewidth=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
