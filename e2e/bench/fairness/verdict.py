"""Which goals of sharing Conch reached."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from e2e.bench.report import Unmet

LEAST_JAIN = 0.98
MOST_WORSE = 1.0
"""Percent that a tenant may have less than from its static slice."""
MOST_LOAD_TIMES = 2.0
LEAST_OF_FIFO = 0.98
"""Utilisation against that of first come, first served."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal in one comparison, and what came of it."""

    workload: str
    load: float
    goal: str
    figure: str
    met: bool

    def unmet(self) -> Unmet:
        """Return it as reports have it."""
        return Unmet(f"{self.workload} at {self.load:g}: {self.goal}", self.figure)


def goals(rows: Iterable[Row]) -> list[Goal]:
    """Return the goals of every comparison in which Conch ran."""
    by_place: dict[tuple[str, float], dict[str, Row]] = {}
    for row in rows:
        by_place.setdefault((row["workload"], row["load"]), {})[row["policy"]] = row
    return [
        Goal(*place, goal=goal, figure=figure, met=met)
        for place, group in by_place.items()
        if "conch" in group
        for goal, figure, met in _judged(group)
    ]


def _judged(group: Mapping[str, Row]) -> Iterable[tuple[str, str, bool]]:
    conch = group["conch"]
    jain, loss = conch["jain_6h"], conch["worst_vs_static_percent"]
    yield f"Jain's index at least {LEAST_JAIN}", f"{jain:.4f}", jain >= LEAST_JAIN
    yield (
        f"nobody more than {MOST_WORSE:g} % worse than its static slice",
        f"{loss:+.2f} % ({conch['worst_vs_static_tenant']})",
        loss <= MOST_WORSE,
    )
    times = conch["recovery_load_times"]
    yield (
        f"recovery within {MOST_LOAD_TIMES:g} load times",
        f"{conch['recovered_share']:.0%} in the end" if times is None else f"{times:.2f}",
        times is not None and times <= MOST_LOAD_TIMES,
    )
    if "kueue" in group:
        yield _fewer_preemptions(conch, group["kueue"])
    ratio = conch["utilisation_vs_fifo"]
    yield "utilisation within 2 % of fifo's", f"{ratio:.4f} x", ratio >= LEAST_OF_FIFO


def _fewer_preemptions(conch: Row, kueue: Row) -> tuple[str, str, bool]:
    """Both without any is met: there was nothing to preempt for."""
    mine, theirs = (row["preemptions_per_gpu_hour"] for row in (conch, kueue))
    met = mine < theirs or mine == theirs == 0
    return "fewer preemptions per GPU-hour than kueue", f"{mine:.4f} against {theirs:.4f}", met
