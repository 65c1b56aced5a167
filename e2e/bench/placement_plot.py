"""Draws the GPUs that each policy leaves unallocated, seed by seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure


def draw(path: Path, found: Mapping[str, Sequence[float]], bound: float) -> None:
    """Write a picture: a bar for the mean of a policy's percentages, a dot for each seed."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    panel = figure.subplots()
    for place, (policy, values) in enumerate(found.items()):
        mean = sum(values) / len(values)
        colour = "tab:red" if policy == "conch" else "tab:blue"
        panel.bar(place, mean, color=colour, alpha=0.5)
        panel.plot([place] * len(values), values, ".", color=colour, markersize=4)
        panel.annotate(f"{mean:.2f} %", (place, max(values)), ha="center", va="bottom")
    panel.axhline(bound, color="black", linewidth=0.8, linestyle="--")
    panel.annotate("nobody can do better", (len(found) - 0.5, bound), ha="right", va="bottom")
    panel.set_xticks(range(len(found)), list(found))
    panel.set(ylabel="GPUs unallocated, %", title="Pods that ask for all GPUs: what is left over")
    panel.margins(y=0.1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
