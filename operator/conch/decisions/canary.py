"""Whether a canary is worse than the stable revision: a test that may be looked at after every request.

Requests are drawn for the canary one by one, so both revisions answer the same mix. What is compared are
shares: of requests that fail, that miss the objective, that are slower than stable's. Each comparison is
one of two Bernoulli streams, with rates p (stable) and q (canary) that nobody knows.

For one stream with S hits in n draws, R(x) = (mixture of all rates) / (likelihood of the rate x) is a
martingale that begins at 1 if x is the true rate: the mixture sequential probability ratio of H. Robbins,
"Statistical methods related to the law of the iterated logarithm" (Annals of Mathematical Statistics 41,
1970). A mixture by Beta(a, b) is B(S + a, n - S + b) / B(a, b); here it is half Beta(1/2, 1/2), the prior of
R. Krichevsky and V. Trofimov (IEEE Transactions on Information Theory 27, 1981), which costs little for
any rate, and half Beta(1/10, 1), which costs next to nothing for rates near 0, as those of errors are.

The product of both streams' R is a martingale too, in whatever order requests come, so the least product
over all (p, q) of a hypothesis is an e-process for it: if the hypothesis holds, it ever reaches 1/alpha with a
probability of alpha at most (Ville's inequality; A. Ramdas, P. Grünwald, V. Vovk and G. Shafer,
"Game-theoretic statistics and safe anytime-valid inference", Statistical Science 38, 2023). A mean of
e-processes is one for the hypothesis that all of theirs hold.

The rates must not change while they are counted, or both alike and with one share: begin the counts anew
(Tally.since) when the share is changed. A confidence is that of one such step. What fails together, as
the requests of one pod that dies, counts as if it were many signs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BOUNDS = tuple(round(0.0005 * 2 ** (k / 3), 7) for k in range(52))
"""Upper bounds (s) of the classes of latency that are counted, one third of an octave each: what takes
twice as long is three classes further up. Slower than the last, 66 s, is one class more."""
_PRIORS = ((0.5, 0.5), (0.1, 1.0))
_MOST = 10**12
_STEPS = 40
"""Halvings of the interval in which the least product is sought."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What requests to one revision came to, counted from some moment on."""

    requests: int = 0
    failed: int = 0
    """Whose caller was answered by an error, or not at all."""
    retried: int = 0
    """At which the revision failed too, and another one answered the caller."""
    buckets: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    """The others by latency, as far as they have one: by BOUNDS, and above."""

    @property
    def errors(self) -> int:
        """How often the revision failed, whether the caller noticed or not."""
        return self.failed + self.retried

    @property
    def timed(self) -> int:
        """How many requests have a latency."""
        return sum(self.buckets)

    @property
    def sound(self) -> bool:
        """Whether these can be counts of anything."""
        counts = (self.requests, self.failed, self.retried, *self.buckets)
        return (
            len(self.buckets) == len(BOUNDS) + 1
            and all(type(n) is int and 0 <= n <= _MOST for n in counts)
            and self.errors + self.timed <= self.requests
        )

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.requests + other.requests,
            self.failed + other.failed,
            self.retried + other.retried,
            tuple(a + b for a, b in zip(self.buckets, other.buckets, strict=True)),
        )

    def since(self, before: "Tally | None") -> "Tally":
        """Return what was counted since ``before``; all of it, where the count began anew meanwhile."""
        if before is None or len(before.buckets) != len(self.buckets):
            return self
        rest = Tally(
            self.requests - before.requests,
            self.failed - before.failed,
            self.retried - before.retried,
            tuple(a - b for a, b in zip(self.buckets, before.buckets, strict=True)),
        )
        fell = min(rest.requests, rest.failed, rest.retried, *rest.buckets) < 0
        return self if fell else rest


@dataclass(frozen=True, slots=True)
class Settings:
    """How sure one has to be, and of what. Shares are between 0 and 1."""

    confidence: float = 0.99
    error_margin: float = 0.01
    """So much larger the canary's share of errors may be."""
    miss_margin: float = 0.02
    """So much larger its share of requests that take longer than the objective's p99 may be."""
    slow_margin: float | None = 0.05
    """So much larger its share of slow requests may be, whatever stable's latency calls slow, where it
    is granted a third of an octave (26 %). None: only the objective counts."""

    least: int = 5
    """Requests of the canary before it is judged: one pod that dies takes what it has along at once."""

    def __post_init__(self) -> None:
        margins = (self.error_margin, self.miss_margin, self.slow_margin)
        if not 0.5 <= self.confidence < 1 or not all(m is None or 0 < m < 1 for m in margins):
            raise ValueError("confidence is from 0.5 to below 1, margins are between 0 and 1")


class Kind(StrEnum):
    """What was found."""

    WORSE = "Worse"
    FINE = "Fine"
    UNDECIDED = "Undecided"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be thought of a canary."""

    kind: Kind
    confidence: float
    """Of the verdict; if undecided, of what is more likely. Between 0 and 1."""
    text: str
    """The numbers behind it, for people."""


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One share of both revisions; arrays hold one element for each bound that may tell."""

    words: str
    margin: float
    stable: tuple[Floats, int]
    """Hits, and requests that they are of."""
    canary: tuple[Floats, int]
    shown: int = 0
    """Which element is told of, and decides whether all is fine."""

    def log_e(self) -> tuple[float, float]:
        """Return log e against "it is not worse", and against "it is worse by the margin"."""
        worse, fine = log_e_values(*self.stable, *self.canary, self.margin)
        count = math.log(len(worse))
        mean = float(np.logaddexp.reduce(worse)) - count
        # The element was chosen by what was seen, so the e-value is that of the mean at least.
        return mean, float(fine[self.shown]) - count

    def __str__(self) -> str:
        shares = [_share(hits[self.shown], total) for hits, total in (self.canary, self.stable)]
        return f"{self.words} {shares[0]}, stable {shares[1]}"


def judge(
    stable: Tally, canary: Tally, *, p99: float | None = None, settings: Settings | None = None
) -> Verdict:
    """Return what is to be thought of a canary; ``p99`` is the objective (s), None where there is none.

    Worse: at the given confidence it is worse by more than a margin, in errors or in latency. Fine: at
    that confidence it is worse by more than a margin in nothing. May be asked at any time and as
    often as one likes.
    """
    settings = settings or Settings()
    if not (stable.sound and canary.sound):
        return _undecided("the counts make no sense")
    if p99 is not None and not (type(p99) in (int, float) and 0 < p99 < math.inf):
        return _undecided("the objective makes no sense")
    if not stable.requests or canary.requests < settings.least:
        few = f"{canary.requests} requests of the canary, {stable.requests} of stable"
        return _undecided(f"not sure yet: {few}")
    found = list(_comparisons(stable, canary, p99, settings))
    log_es = [comparison.log_e() for comparison in found]
    weights = [0.5, *([0.5 / (len(found) - 1)] * (len(found) - 1))] if len(found) > 1 else [1.0]
    terms = [math.log(w) + worse for w, (worse, _) in zip(weights, log_es, strict=True)]
    worse = float(np.logaddexp.reduce(terms))
    # All have to be refuted, so none is favoured by their number.
    fine = min(e for _, e in log_es)
    enough = -math.log1p(-settings.confidence)
    told = "; ".join(map(str, found))
    if worse >= enough:
        because = str(found[max(range(len(found)), key=terms.__getitem__)])
        return _verdict(Kind.WORSE, worse, f"the canary is worse: {because}")
    if fine >= enough:
        return _verdict(Kind.FINE, fine, f"the canary is not worse: {told}")
    return _verdict(Kind.UNDECIDED, max(worse, fine), f"not sure yet: {told}")


def _verdict(kind: Kind, log_e: float, text: str) -> Verdict:
    confidence = max(0.0, -math.expm1(-log_e))
    return Verdict(kind, confidence, f"{text} (confidence {_floor_percent(confidence)})")


def _undecided(text: str) -> Verdict:
    return Verdict(Kind.UNDECIDED, 0.0, text)


def _comparisons(
    stable: Tally, canary: Tally, p99: float | None, settings: Settings
) -> Iterator[_Comparison]:
    """Yield what is compared, errors first."""
    errors = [(np.array([float(t.errors)]), t.requests) for t in (stable, canary)]
    yield _Comparison("it failed at", settings.error_margin, errors[0], errors[1])
    slower = [np.cumsum(t.buckets[::-1], dtype=np.float64)[::-1][1:] for t in (stable, canary)]
    at = None if p99 is None else next((i for i, b in enumerate(BOUNDS) if b >= p99), None)
    if at is not None:
        missed = [(s[at : at + 1], t.timed) for s, t in zip(slower, (stable, canary), strict=True)]
        words = f"it took longer than {_time(BOUNDS[at])} for"
        yield _Comparison(words, settings.miss_margin, missed[0], missed[1])
    if settings.slow_margin is not None:
        # Of BOUNDS, the one that nine of ten of stable's requests keep to.
        mine = (slower[0][:-1], stable.timed)
        keeps = mine[0] <= 0.1 * stable.timed
        shown = int(np.argmax(keeps)) if keeps.any() else len(keeps) - 1
        words = f"it took longer than {_time(BOUNDS[shown + 1])} for"
        theirs = (slower[1][1:], canary.timed)
        yield _Comparison(words, settings.slow_margin, mine, theirs, shown)


def log_e_values(
    stable_hits: Floats,
    stable_all: int | Floats,
    canary_hits: Floats,
    canary_all: int | Floats,
    margin: float,
) -> tuple[Floats, Floats]:
    """Return log e against "q <= p + margin" and against "q >= p + margin", for each element."""
    s, n, c, m = (
        np.asarray(x, dtype=np.float64) for x in (stable_hits, stable_all, canary_hits, canary_all)
    )
    mixture = _log_mixture(s, n) + _log_mixture(c, m)
    p = _least(s, n, c, m, margin)
    edge = mixture - _log_likelihood(s, n, p) - _log_likelihood(c, m, p + margin)
    # Where what was seen lies within a hypothesis, the least product is found there.
    inside = mixture - _log_likelihood(s, n, _rate(s, n)) - _log_likelihood(c, m, _rate(c, m))
    beyond = _rate(c, m) > _rate(s, n) + margin
    unknown = (n == 0) | (m == 0)
    return (
        np.where(beyond & ~unknown, edge, np.minimum(inside, 0.0)),
        np.where(beyond | unknown, np.minimum(inside, 0.0), edge),
    )


def _rate(hits: Floats, total: Floats) -> Floats:
    found: Floats = hits / np.maximum(total, 1.0)
    return found


def _log_mixture(hits: Floats, total: Floats) -> Floats:
    """Return the logarithm of the likelihood of what was seen, mixed over all rates."""
    found: Floats = np.logaddexp.reduce([_log_beta(hits, total, a, b) for a, b in _PRIORS])
    return found - math.log(len(_PRIORS))


def _log_beta(hits: Floats, total: Floats, a: float, b: float) -> Floats:
    """Return log B(S + a, n - S + b) / B(a, b)."""
    prior = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    seen: Floats = _log_gamma(hits + a) + _log_gamma(total - hits + b) - _log_gamma(total + a + b)
    found: Floats = seen + prior
    return found


def _log_gamma(x: Floats) -> Floats:
    values, back = np.unique(x, return_inverse=True)
    found: Floats = np.array([math.lgamma(v) for v in values])[back].reshape(x.shape)
    return found


def _log_likelihood(hits: Floats, total: Floats, rate: Floats) -> Floats:
    found: Floats = _times_log(hits, rate) + _times_log(total - hits, 1.0 - rate)
    return found


def _times_log(count: Floats, value: Floats) -> Floats:
    """Return count * log(value), which is 0 for nothing of what can't be."""
    safe = np.where(count > 0, np.maximum(value, 1e-300), 1.0)
    found: Floats = count * np.log(safe)
    return found


def _least(s: Floats, n: Floats, c: Floats, m: Floats, margin: float) -> Floats:
    """Return the p at which the product of (p, p + margin) is least; its logarithm is convex."""
    shape = np.broadcast_shapes(s.shape, n.shape, c.shape, m.shape)
    low, high = np.zeros(shape), np.full(shape, 1.0 - margin)
    for _ in range(_STEPS):
        p = (low + high) / 2
        q = p + margin
        slope = (n - s) / (1 - p) - s / p + (m - c) / np.maximum(1 - q, 1e-300) - c / q
        low, high = np.where(slope < 0, p, low), np.where(slope < 0, high, p)
    found: Floats = (low + high) / 2
    return found


def _share(hits: float, total: int) -> str:
    percent = f" ({100 * hits / total:.1f} %)" if total else ""
    return f"{hits:.0f} of {total}{percent}"


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _floor_percent(confidence: float) -> str:
    """Return a confidence in words that promise no more than it is."""
    return f"{math.floor(confidence * 10_000) / 100:g} %"
