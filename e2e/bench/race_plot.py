"""Draws a race of scalers: load, replicas over time."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = {"conch": "tab:blue", "keda": "tab:orange"}


def plot(figures: dict[str, Any], path: Path) -> Path:
    """Draw the replicas of each contender over time; return the picture's path."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(len(COLOURS), 1, sharex=True, sharey=True)
    for panel, (name, colour) in zip(panels, COLOURS.items(), strict=True):
        told = figures[name]
        rows = told["timeline"]
        seconds = [row["second"] for row in rows]
        panel.step(seconds, [row["created"] for row in rows], color=colour, where="post", alpha=0.4)
        panel.fill_between(
            seconds, [row["ready"] for row in rows], step="post", color=colour, alpha=0.3
        )
        panel.axvspan(0, figures["warm_up_s"], color="grey", alpha=0.15)
        panel.set_title(
            f"{name}: {told['late_percent']:g} % late, {told['replica_seconds']:.0f} replica-seconds"
        )
        panel.set_ylabel("replicas: there (line), ready")
    panels[-1].set_xlabel("seconds; grey: not counted")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
