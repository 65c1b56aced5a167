"""Frontiers of the scaling benchmark as a picture: one panel for each trace and load time."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from e2e.bench.scaling_verdict import Point, Row, points

_COLOURS = {
    "conch": "tab:red",
    "hpa": "tab:blue",
    "kpa": "tab:green",
    "keda": "tab:orange",
    "forecast": "tab:purple",
    "static": "tab:brown",
    "clairvoyant": "black",
}
_LINEAR = 0.01
"""Percent of late requests below which the scale is linear, so that zero has a place."""


def draw(path: Path, rows: Iterable[Row]) -> None:
    """Write a picture of cost ÷ clairvoyant against late requests."""
    groups = points(rows)
    traces = list(dict.fromkeys(trace for trace, _ in groups))
    times = list(dict.fromkeys(time for _, time in groups))
    figure = Figure(figsize=(4.2 * len(times), 3.4 * len(traces)), layout="constrained")
    panels = figure.subplots(len(traces), len(times), squeeze=False)
    for (trace, time), group in groups.items():
        _panel(panels[traces.index(trace), times.index(time)], f"{trace}, {time}", group)
    handles: dict[str, Any] = {}
    for panel in panels.flat:
        lines, names = panel.get_legend_handles_labels()
        handles |= dict(zip(names, lines, strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def _panel(panel: Axes, title: str, group: Sequence[Point]) -> None:
    for policy in dict.fromkeys(p.policy for p in group):
        mine = sorted((p for p in group if p.policy == policy), key=lambda p: p.cost)
        panel.plot(
            [p.cost for p in mine],
            [p.late for p in mine],
            marker="*" if policy == "conch" else "o",
            markersize=11 if policy == "conch" else 4,
            linewidth=0.8,
            color=_COLOURS.get(policy),
            label=policy,
        )
        for point in mine:
            if point.setting != "default":
                panel.annotate(point.setting, (point.cost, point.late), fontsize=6)
    panel.set_yscale("symlog", linthresh=_LINEAR)
    panel.set_ylim(bottom=0)
    panel.set(title=title, xlabel="cost ÷ clairvoyant", ylabel="late requests, %")
    panel.grid(visible=True, linewidth=0.3)
