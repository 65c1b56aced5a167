"""Draws how many GPUs wait under each policy as time goes by, and what moves recovered."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from e2e.bench.defrag_runs import HOUR_S, TICK_S, Outcome

_COLOURS = {
    "none": "tab:gray",
    "karpenter": "tab:blue",
    "karpenter-balanced": "tab:cyan",
    "conch": "tab:red",
}


def draw(path: Path, found: Mapping[str, Sequence[Outcome]]) -> None:
    """Write a picture: lines of the first seed on the left, means of all on the right."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    for policy, runs in found.items():
        hours = [TICK_S * tick / HOUR_S for tick in range(len(runs[0].waiting))]
        left.plot(hours, runs[0].waiting, color=_COLOURS[policy], label=policy, linewidth=0.9)
    left.set(xlabel="hours", ylabel="GPUs", title="GPUs that waiting work asks for, one seed")
    left.legend(frameon=False)
    for place, (policy, runs) in enumerate(found.items()):
        recovered = sum(o.recovered for o in runs) / len(runs)
        moved = sum(o.moved for o in runs) / len(runs)
        right.bar(place - 0.2, recovered, width=0.4, color=_COLOURS[policy])
        right.bar(place + 0.2, moved, width=0.4, color=_COLOURS[policy], alpha=0.35)
    right.set_xticks(range(len(found)), [p.replace("-", "\n") for p in found])
    right.set(title="GPUs recovered, moved (pale)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
