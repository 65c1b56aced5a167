"""How a simulation looks: a table, a plot of blocks for terminals, a picture."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from conch.cli.plugin_target import PluginError
from conch.cli.plugin_view import table
from conch.simulate.report import Course, Figures, Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 66
"""Buckets of a plot for terminals, beside which its figures stand."""
PIXELS = 720
"""Buckets of a picture."""
_BLOCKS = " ▁▂▃▄▅▆▇█"
_ROWS = 3


def show_figures(out: Console, rows: Sequence[Figures], *, gpus: float) -> None:
    """Print a line for each policy."""
    what = "GPUs" if gpus else "replicas"
    made = table(
        "policy", f"{what} peak", "mean", "cost", "late", "wait p50", "p99", "hours", "acts/h"
    )
    for column in made.columns[1:]:
        column.justify = "right"
    for row in rows:
        size = gpus or 1
        made.add_row(
            row.policy,
            f"{row.peak_replicas * size:g}",
            f"{row.mean_replicas * size:.1f}",
            "-" if row.cost_ratio is None else f"{row.cost_ratio:.2f}",
            f"{row.late_percent:.3g}%",
            _seconds(row.p50_wait_s),
            _seconds(row.p99_wait_s),
            f"{row.replica_seconds * size / 3600:.0f}",
            f"{row.actions_per_hour:.1f}",
        )
    out.print(made)
    unit = "GPU" if gpus else "replica"
    out.print(
        f"cost: {unit}-hours ÷ those of the clairvoyant optimum; hours: {unit}-hours; late: of all "
        "requests",
        style="dim",
    )


def _seconds(value: float | None) -> str:
    if value is None:
        return "never"
    return f"{value * 1e3:.0f}ms" if value < 1 else f"{value:.1f}s"


def show_course(out: Console, policy: str, found: Course) -> None:
    """Print load, replicas and late requests over time, each as blocks."""
    out.print()
    out.print(f"{policy}", style="bold")
    for name, values, unit in (
        ("load", found.load, " requests/s"),
        ("replicas, starting ones too", found.held, ""),
        ("late requests", found.late_percent, "%"),
    ):
        _show_blocks(out, name, values, unit)
    out.print(_axis(found))


def _show_blocks(out: Console, name: str, values: Floats, unit: str) -> None:
    top = max((v for v in values.tolist() if not math.isnan(v)), default=0.0)
    if top <= 0:
        out.print(f"{name}: none", style="dim")
        return
    out.print(f"{name}, up to {top:.3g}{unit}", style="dim")
    for line in blocks(values, top):
        out.print("  " + line)


def blocks(values: Floats, top: float) -> list[str]:
    """Return rows of blocks, the upper first; ``·`` where nothing is known."""
    steps = len(_BLOCKS) - 1
    scaled = [None if math.isnan(v) else _height(v, top, steps * _ROWS) for v in values.tolist()]
    return [
        "".join(
            ("·" if row == 0 else " ")
            if height is None
            else _BLOCKS[min(steps, max(0, height - row * steps))]
            for height in scaled
        )
        for row in reversed(range(_ROWS))
    ]


def _height(value: float, top: float, most: int) -> int:
    """Return eighths of a row; anything above zero is seen."""
    if value <= 0 or top <= 0:
        return 0
    return max(1, round(value / top * most))


def _axis(found: Course) -> str:
    end = duration(float(found.edges[-1]))
    width = duration(float(found.edges[1]))
    return "  0" + f"(a column: the mean of {width})".center(len(found.load) - 1 - len(end)) + end


def duration(seconds: float) -> str:
    """Return a length of time in the largest unit that leaves little out."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "m")):
        if seconds >= size:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds:.3g}s"


def draw(path: Path, title: str, courses: Sequence[tuple[str, Course]]) -> None:
    """Write a PNG of load, replicas and late requests over time. Raises PluginError."""
    figure = picture(figsize=(12, 8), layout="constrained")
    load, replicas, late = figure.subplots(3, 1, sharex=True)
    first = courses[0][1]
    unit, size = _scale(float(first.edges[-1]))
    middle = (first.edges[1:] + first.edges[:-1]) / (2 * size)
    load.fill_between(middle, first.load, step="mid", color="0.7")
    load.set(ylabel="requests/s", title=title)
    for policy, found in courses:
        (line,) = replicas.plot(middle, found.held, drawstyle="steps-mid", label=policy, lw=1.2)
        late.plot(middle, found.late_percent, drawstyle="steps-mid", color=line.get_color(), lw=1.2)
    replicas.set(ylabel="replicas", ylim=(0, None))
    replicas.legend(loc="upper right")
    late.set(ylabel="late requests, %", ylim=(0, None), xlabel=f"{unit} from the start")
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise PluginError(f"{path} can't be written: {error.strerror}") from error


def _scale(span: float) -> tuple[str, float]:
    """Return the unit of a time axis and its seconds."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if span >= 2 * size:
            return unit, size
    return "seconds", 1.0


def picture(**more: Any) -> "Figure":
    """Return an empty picture. Raises PluginError where matplotlib is absent."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # an extra, and slow to import
    except ImportError as error:
        raise PluginError(
            "pictures need matplotlib: pip install 'conch-operator[plots]'; or leave out "
            "--output png and --plot"
        ) from error
    return Figure(**more)
