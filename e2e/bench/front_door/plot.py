"""Draws what each way to the pod costs, and how latency went while replicas came and went."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from e2e.bench.front_door.flow import Outcomes, quantile, together

COLOURS = {
    "direct": "black",
    "bare_service": "tab:grey",
    "nginx": "tab:green",
    "front_door": "tab:blue",
}
_BUCKETS = 120


def plot(
    path: Path, ways: Mapping[str, Sequence[Outcomes]], changes: Sequence[Outcomes]
) -> Path | None:
    """Draw what was measured of both; return the picture's path, None where there is nothing."""
    panels = [bool(ways), bool(changes)]
    if not any(panels):
        return None
    figure = Figure(figsize=(10, 4.5 * sum(panels)), layout="constrained")
    axes = [*figure.subplots(sum(panels), 1, squeeze=False).flat]
    if ways:
        _distributions(axes.pop(0), ways)
    if changes:
        _over_time(axes.pop(0), changes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def _distributions(panel: Axes, ways: Mapping[str, Sequence[Outcomes]]) -> None:
    for way, rounds in ways.items():
        found = together(way, rounds).latencies()
        shares = [(i + 1) / len(found) for i in range(len(found))]
        panel.plot(
            [s * 1e3 for s in found],
            [1 - s + 1e-6 for s in shares],
            color=COLOURS.get(way),
            label=f"{way}: {quantile(found, 0.5) * 1e3:.2f} ms",
        )
    panel.set(xscale="log", yscale="log", ylim=(1e-4, 1))
    panel.set(xlabel="ms over HTTP, half of what the pod takes", ylabel="share that took longer")
    panel.grid(visible=True, linewidth=0.3)
    panel.legend(title="way: median")


def _over_time(panel: Axes, flows: Sequence[Outcomes]) -> None:
    start = min(f.began[0] for f in flows)
    end = max(f.began[-1] for f in flows)
    width = max((end - start) / _BUCKETS, 1e-3)
    for flow in flows:
        buckets: dict[int, list[float]] = {}
        for began, ended in zip(flow.began, flow.ended, strict=True):
            buckets.setdefault(int((began - start) / width), []).append(ended - began)
        times = [i * width for i in sorted(buckets)]
        p99 = [quantile(sorted(buckets[i]), 0.99) * 1e3 for i in sorted(buckets)]
        panel.plot(times, p99, label=f"{flow.name}: {flow.wrong} of {flow.sent} failed")
    panel.set(yscale="log", xlabel="s, replicas changing all the time", ylabel="p99, ms")
    panel.grid(visible=True, linewidth=0.3)
    panel.legend()
