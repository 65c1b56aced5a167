"""What a load is: flows of questions to one address, and what came of each request."""

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Protocol = Literal["http", "grpc", "stream"]
RIGHT = "right"
REFUSED = "refused "
"""Begins the outcome of a request that was answered, but not with what was asked for."""


@dataclass(frozen=True)
class Flow:
    """Requests to a model that adds ``adds`` to each of four floats, over kept-alive connections.

    Open loop: ``rate`` requests a second with exponential gaps, whether or not earlier ones were
    answered. Closed loop, where ``rate`` is None: each connection asks again once it was answered,
    over gRPC ``callers`` of them. A stream sends ``rate`` messages a second.
    """

    name: str
    protocol: Protocol
    address: str
    """Host and port."""
    model: str
    adds: float = 1.0
    prefix: str = ""
    """Of the path, such as /vision/digits."""
    host: str | None = None
    """The name that is asked for, in place of the address."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Metadata, over gRPC."""
    rate: float | None = 100.0
    most: int | None = None
    """Requests after which it ends."""
    seconds: float = 5.0
    """After which it ends at the latest."""
    connections: int = 8
    """Over gRPC, channels; streams at a time."""
    callers: int = 8
    timeout: float = 20.0
    """Seconds after which a request has failed."""
    seed: int = 0
    questions: int = 16
    """Different ones, in turn, so that an answer to another request is seen."""


@dataclass(frozen=True)
class Outcomes:
    """What came of the requests of a flow, each once; times are those of CLOCK_MONOTONIC."""

    name: str
    began: Sequence[float]
    ended: Sequence[float]
    what: Sequence[str]
    late: Sequence[float] = ()
    """Seconds by which requests were sent after they were due, as the sender was busy."""
    reopened: int = 0
    """Connections that ended while nothing was asked on them."""
    unopened: int = 0
    """Attempts to connect that failed; no request was sent on those."""
    words: Sequence[str] = ()
    """What was said of the first that went wrong."""

    @property
    def sent(self) -> int:
        return len(self.began)

    @property
    def right(self) -> int:
        """Requests that were answered as the model must."""
        return sum(w == RIGHT for w in self.what)

    @property
    def wrong(self) -> int:
        """Requests that were not, refused ones too."""
        return self.sent - self.right

    @property
    def refused(self) -> dict[str, int]:
        """Refused requests by code."""
        found = (w.removeprefix(REFUSED) for w in self.what if w.startswith(REFUSED))
        return dict(Counter(found))

    @property
    def failed(self) -> dict[str, int]:
        """Requests without any answer, or with a wrong one, by what happened."""
        found = (w for w in self.what if w != RIGHT and not w.startswith(REFUSED))
        return dict(Counter(found))

    def latencies(self, since: float = -math.inf) -> list[float]:
        """Return the seconds of those that were answered right, sorted."""
        rows = zip(self.began, self.ended, self.what, strict=True)
        return sorted(e - b for b, e, w in rows if w == RIGHT and b >= since)

    def rate(self, since: float, until: float) -> float:
        """Return right answers a second between two times."""
        rows = zip(self.ended, self.what, strict=True)
        return sum(w == RIGHT and since <= e < until for e, w in rows) / (until - since)

    def in_flight(self, at: float) -> int:
        """Return how many were under way at a time."""
        return sum(b <= at < e for b, e in zip(self.began, self.ended, strict=True))

    def wrong_ones(self) -> Iterator[tuple[float, float, str]]:
        """Yield begin, end and outcome of those that were not answered right."""
        for row in zip(self.began, self.ended, self.what, strict=True):
            if row[2] != RIGHT:
                yield row

    def summary(self) -> dict[str, Any]:
        """Return figures of all of it, times in ms."""
        found = self.latencies()
        return {
            "requests": self.sent,
            "failed": self.wrong,
            **({"refused": self.refused} if self.refused else {}),
            **({"failures": self.failed} if self.failed else {}),
            **({"words": list(self.words[:3])} if self.words else {}),
            **{f"p{s * 100:g}_ms": round(quantile(found, s) * 1e3, 3) for s in (0.5, 0.9, 0.99)},
            "longest_ms": round((found[-1] if found else math.nan) * 1e3, 3),
            "sent_late_p99_ms": round(quantile(sorted(self.late), 0.99) * 1e3, 3),
            "reopened": self.reopened,
            "unopened": self.unopened,
        }


def together(name: str, parts: Iterable[Outcomes]) -> Outcomes:
    """Return the outcomes of several flows, or rounds of one, as of one."""
    parts = list(parts)
    return Outcomes(
        name,
        [t for p in parts for t in p.began],
        [t for p in parts for t in p.ended],
        [w for p in parts for w in p.what],
        [s for p in parts for s in p.late],
        sum(p.reopened for p in parts),
        sum(p.unopened for p in parts),
        [w for p in parts for w in p.words],
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values, by nearest rank; NaN where there are none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def share_up_to(ordered: Sequence[float], value: float) -> float:
    """Return the share of sorted values that are at most so large."""
    return bisect.bisect_right(ordered, value) / len(ordered) if ordered else math.nan


@dataclass(frozen=True)
class Killed:
    """Who was under way as something was killed, and who failed."""

    requests: int
    in_flight: int
    failed: int
    failed_not_in_flight: int
    """Of those: which began later, or had ended before. None may."""
    failures: dict[str, int]


def at_kill(outcomes: Outcomes, before: float, after: float) -> Killed:
    """Return what a kill between two times did."""
    wrong = list(outcomes.wrong_ones())
    under_way = [(b, e) for b, e, _ in wrong if b <= after and e >= before]
    ends = zip(outcomes.began, outcomes.ended, strict=True)
    return Killed(
        requests=outcomes.sent,
        in_flight=sum(b <= after and e >= before for b, e in ends),
        failed=len(wrong),
        failed_not_in_flight=len(wrong) - len(under_way),
        failures=dict(Counter(w for _, _, w in wrong)),
    )
