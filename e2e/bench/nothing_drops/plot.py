"""Draws latency over time, and what was done meanwhile."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from e2e.bench.front_door.flow import RIGHT, Outcomes, quantile
from e2e.bench.nothing_drops.acts import Window

COLOURS = {
    "migration": "tab:blue",
    "rollout": "tab:green",
    "scale change": "tab:grey",
    "drain": "tab:orange",
    "neighbour": "tab:purple",
}
_BUCKET_S = 2.0


def plot(path: Path, outcomes: Sequence[Outcomes], windows: Sequence[Window]) -> Path:
    """Draw it; return the picture's path."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    panel = figure.subplots()
    start = min(o.began[0] for o in outcomes if o.sent)
    buckets: dict[int, list[float]] = {}
    for one in outcomes:
        for began, ended, what in zip(one.began, one.ended, one.what, strict=True):
            if what == RIGHT:
                buckets.setdefault(int((began - start) / _BUCKET_S), []).append(ended - began)
            else:
                panel.axvline(began - start, color="red", linewidth=0.6)
    at = sorted(buckets)
    for share, style in ((0.5, "-"), (0.99, ":")):
        values = [1e3 * quantile(sorted(buckets[b]), share) for b in at]
        label = f"p{100 * share:g}"
        panel.plot([b * _BUCKET_S for b in at], values, style, color="black", label=label)
    seen: set[str] = set()
    for window in windows:
        colour = COLOURS.get(window.what, "tab:red")
        name = window.what if window.what in COLOURS else "bad rollout"
        label = "" if name in seen else name
        seen.add(name)
        panel.axvspan(
            window.began - start, window.ended - start, color=colour, alpha=0.25, label=label
        )
    panel.set(xlabel="s", ylabel="ms", yscale="log", title="Latency; red lines are failed requests")
    panel.legend(loc="upper right", ncols=4, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
