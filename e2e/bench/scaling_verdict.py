"""What the figures of policies say about Conch's default: who dominates it, and what was missed."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from e2e.bench.report import Unmet

COST_TIE = 0.01
"""Share of Conch's cost within which two costs are the same."""
LATE_TIE = 0.01
"""Percentage points within which two shares of late requests are the same."""
MOST_LATE, MOST_COST = 0.2, 1.3
"""Goals on the traces of language and other models at 45 s: percent, times the optimum."""
GOAL_TRACES = ("azure-conv", "azure-code", "servegen-large", "servegen-mid")
GOAL_LOAD_TIME = "45s"
DEFAULT = ("conch", "default")
OPTIMUM = "clairvoyant"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """One setting of a policy on one trace with one load time, the mean over seeds."""

    policy: str
    setting: str
    cost: float
    """Times that of the clairvoyant optimum."""
    late: float
    """Percent."""

    @property
    def name(self) -> str:
        """Policy and setting."""
        return self.policy if self.setting in ("", "default") else f"{self.policy} {self.setting}"


@dataclass(frozen=True)
class Verdict:
    """How Conch's default stands among the baselines of one trace and load time."""

    trace: str
    load_time: str
    conch: Point
    dominating: tuple[Point, ...]
    """Not worse in cost and late requests, and better in one of them."""
    fewer_late: tuple[Point, ...]
    """Of equal or lower cost, with fewer late requests."""

    @property
    def good(self) -> bool:
        """Nothing beats Conch's default."""
        return not self.dominating and not self.fewer_late


def points(rows: Iterable[Row]) -> dict[tuple[str, str], list[Point]]:
    """Return the points of each (trace, load time), in the order of the rows."""
    groups: dict[tuple[str, str], dict[tuple[str, str], list[Row]]] = {}
    for row in rows:
        group = groups.setdefault((row["trace"], row["load_time"]), defaultdict(list))
        group[row["policy"], row["setting"]].append(row)
    return {
        place: [
            Point(
                *who,
                cost=fmean(r["cost_ratio"] for r in seeds),
                late=fmean(r["late_percent"] for r in seeds),
            )
            for who, seeds in group.items()
        ]
        for place, group in groups.items()
    }


def verdicts(rows: Iterable[Row]) -> list[Verdict]:
    """Return a verdict for each trace and load time on which Conch's default ran."""
    found = []
    for (trace, load_time), group in points(rows).items():
        conch = next((p for p in group if (p.policy, p.setting) == DEFAULT), None)
        if conch is None:
            continue
        others = [p for p in group if p.policy not in (DEFAULT[0], OPTIMUM)]
        found.append(
            Verdict(
                trace,
                load_time,
                conch,
                dominating=tuple(p for p in others if dominates(p, conch)),
                fewer_late=tuple(p for p in others if has_fewer_late(p, conch)),
            )
        )
    return found


def dominates(other: Point, conch: Point) -> bool:
    """Tell whether a point is not worse in both, ties allowed, and better in one."""
    tie = COST_TIE * conch.cost
    not_worse = other.cost <= conch.cost + tie and other.late <= conch.late + LATE_TIE
    return not_worse and (other.cost < conch.cost - tie or other.late < conch.late - LATE_TIE)


def has_fewer_late(other: Point, conch: Point) -> bool:
    """Tell whether a point of equal or lower cost has fewer late requests."""
    equal_or_lower = other.cost <= conch.cost * (1 + COST_TIE)
    return equal_or_lower and other.late < conch.late - LATE_TIE


def unmet_goals(found: Sequence[Verdict]) -> list[Unmet]:
    """Return the goals that were not reached."""
    unmet = []
    for v in found:
        where = f"{v.trace}, load time {v.load_time}"
        here = f"conch {_figure(v.conch)}"
        if v.dominating:
            goal = f"{where}: no baseline dominates Conch's default"
            unmet.append(Unmet(goal, f"{here}; {'; '.join(map(_named, v.dominating))}"))
        elif v.fewer_late:
            goal = f"{where}: none of equal or lower cost has fewer late requests"
            unmet.append(Unmet(goal, f"{here}; {'; '.join(map(_named, v.fewer_late))}"))
        met = v.conch.late <= MOST_LATE and v.conch.cost <= MOST_COST
        if v.trace in GOAL_TRACES and v.load_time == GOAL_LOAD_TIME and not met:
            goal = f"{where}: at most {MOST_LATE} % late at {MOST_COST} x the optimum"
            unmet.append(Unmet(goal, here))
    return unmet


def _named(point: Point) -> str:
    return f"{point.name} {_figure(point)}"


def _figure(point: Point) -> str:
    return f"{point.cost:.3f} x, {point.late:.3f} %"
