"""Service over entitlement of every tenant as a picture: one panel for each policy and fleet."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from e2e.bench.fairness.figures import WINDOW, Figures, mean_jain
from e2e.bench.fairness.runs import POLICIES, Place, Result

_MOST = 2.0
"""Of the scale: who has more than twice its entitlement is drawn at its edge."""


def draw(path: Path, found: Mapping[Place, Mapping[str, Result]]) -> None:
    """Write a picture: tenants on 1 have what they are entitled to."""
    policies = [p for p in POLICIES if any(p in group for group in found.values())]
    size = (2.8 * len(policies), 2.2 * len(found))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(found), len(policies), squeeze=False, sharex=True, sharey=True)
    for line, (place, group) in zip(panels, found.items(), strict=True):
        line[0].set_ylabel(f"{place[0]} at {place[1]:g}")
        for panel, policy in zip(line, policies, strict=True):
            if policy in group:
                _panel(panel, policy, group[policy].figures)
    for panel in panels[-1]:
        panel.set_xlabel("hours")
    figure.suptitle("Service ÷ entitlement over 6 h, one line a tenant")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def _panel(panel: Axes, policy: str, figures: Figures) -> None:
    hours = [(number + 0.5) * WINDOW / 3600.0 for number in range(len(figures.served))]
    shares = figures.shares
    for tenant in sorted({t for window in shares for t in window}):
        known = [(h, s[tenant]) for h, s in zip(hours, shares, strict=True) if tenant in s]
        panel.plot(
            [hour for hour, _ in known],
            [min(_MOST, share) for _, share in known],
            marker=".",
            markersize=3,
            linewidth=0.8,
        )
    panel.axhline(1.0, color="black", linewidth=0.4)
    panel.set_ylim(0.0, _MOST * 1.02)
    panel.set_title(f"{policy}: Jain {mean_jain(figures):.3f}", fontsize=9)
    panel.grid(visible=True, linewidth=0.3)
