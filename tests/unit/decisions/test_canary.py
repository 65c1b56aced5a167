"""The test by which canaries are judged: how often it errs, and how soon it knows."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conch.decisions.canary import BOUNDS, Kind, Settings, Tally, judge, log_e_values

RUNS, REQUESTS = 400, 5000
ALPHA = 0.01
CLASSES = len(BOUNDS) + 1


def tally(fine: int = 0, failed: int = 0, *, at: int = 20, retried: int = 0) -> Tally:
    """Return so many requests; those in order took as long as one class of BOUNDS says."""
    buckets = [0] * CLASSES
    buckets[at] = fine
    return Tally(fine + failed + retried, failed, retried, tuple(buckets))


def timed(seconds: np.ndarray, failed: int = 0) -> Tally:
    """Return requests with these latencies."""
    counts = np.bincount(np.searchsorted(BOUNDS, seconds), minlength=CLASSES)
    return Tally(len(seconds) + failed, failed, 0, tuple(map(int, counts)))


def log_normal(rng: np.random.Generator, size: int, median: float = 0.02) -> np.ndarray:
    """Return latencies (s): the slowest of a hundred takes about three times as long as the median."""
    return median * np.exp(0.5 * rng.standard_normal(size))


def test_classes_are_a_third_of_an_octave() -> None:
    assert all(b / a == pytest.approx(2 ** (1 / 3), rel=1e-3) for a, b in pairwise(BOUNDS))
    assert BOUNDS[-1] > 60


@pytest.mark.parametrize(("stable", "share"), [(0.0, 0.05), (0.001, 0.5), (0.02, 0.05), (0.2, 0.5)])
def test_false_alarms_under_a_look_after_every_request(stable: float, share: float) -> None:
    """On the very margin, where errors are likeliest; in either direction."""
    rng = np.random.default_rng(20240 + round(1000 * stable + 10 * share))
    drawn = rng.random((RUNS, REQUESTS)) < share
    bad = rng.random((RUNS, REQUESTS)) < np.where(drawn, stable + 0.01, stable)
    worse, fine = log_e_values(
        np.cumsum(bad & ~drawn, axis=1),
        np.cumsum(~drawn, axis=1),
        np.cumsum(bad & drawn, axis=1),
        np.cumsum(drawn, axis=1),
        0.01,
    )
    for found in (worse, fine):
        alarms = int((found.max(axis=1) >= math.log(1 / ALPHA)).sum())
        # At most ALPHA of all, and by chance (once in a thousand) no more than 11 of 400.
        assert alarms <= 11


def test_false_alarms_of_a_verdict_on_all_of_it() -> None:
    """The canary is like stable in errors and latency; a look after every twenty of its requests."""
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(30):
        seconds = log_normal(rng, 3000)
        bad = rng.random(3000) < 0.02
        for looked in range(20, 1001, 20):
            at, other = slice(0, looked), slice(1000, 1000 + 2 * looked)
            canary = timed(seconds[at][~bad[at]], int(bad[at].sum()))
            stable = timed(seconds[other][~bad[other]], int(bad[other].sum()))
            if judge(stable, canary, p99=0.05).kind is Kind.WORSE:
                alarms += 1
                break
    assert alarms <= 3  # of 30, and 0.3 are to be expected


def needed(
    stable: Tally, canary: Callable[[int], Tally], kind: Kind, *, step: int, most: int = 4000
) -> int:
    """Return after how many of the canary's requests a verdict comes, with a look at each ``step``."""
    looks = range(step, most, step)
    return next((n for n in looks if judge(stable, canary(n), p99=0.1).kind is kind), most)


@pytest.mark.parametrize("healthy", [20, 100, 10_000])
def test_five_failures_in_a_row_are_enough(healthy: int) -> None:
    stable = tally(healthy)
    assert judge(stable, tally(0, 4)).kind is Kind.UNDECIDED
    found = judge(stable, tally(0, 5))
    assert found.kind is Kind.WORSE
    assert found.confidence > 0.99
    assert "it failed at 5 of 5 (100.0 %), stable 0 of" in found.text
    assert judge(stable, tally(0, 0, retried=5)).kind is Kind.WORSE, "callers did not notice"


def test_ten_percent_more_errors_are_found_in_a_hundred_requests() -> None:
    rng, found = np.random.default_rng(11), []
    for _ in range(40):
        bad = np.cumsum(rng.random(600) < 0.11)

        def canary(n: int, bad: np.ndarray = bad) -> Tally:
            return tally(n - int(bad[n - 1]), int(bad[n - 1]))

        found.append(needed(tally(9900, 100), canary, Kind.WORSE, step=5, most=600))
    assert 40 <= np.median(found) <= 130
    assert np.quantile(found, 0.9) <= 280


def test_twice_the_latency_is_found_in_a_hundred_requests() -> None:
    rng, found = np.random.default_rng(12), []
    for _ in range(40):
        seconds = log_normal(rng, 300, median=0.04)

        def canary(n: int, seconds: np.ndarray = seconds) -> Tally:
            return timed(seconds[:n])

        found.append(needed(timed(log_normal(rng, 5000)), canary, Kind.WORSE, step=2, most=300))
    assert 30 <= np.median(found) <= 110
    assert np.quantile(found, 0.9) <= 150


@pytest.mark.parametrize(("errors", "most"), [(0.0, 1000), (0.002, 2500)])
def test_what_is_alike_is_fine_after_a_thousand_or_two(errors: float, most: int) -> None:
    rng, found = np.random.default_rng(13), []
    for _ in range(12):
        seconds, bad = log_normal(rng, 4000), np.cumsum(rng.random(4000) < errors)

        def canary(n: int, seconds: np.ndarray = seconds, bad: np.ndarray = bad) -> Tally:
            return timed(seconds[: n - int(bad[n - 1])], int(bad[n - 1]))

        stable = timed(log_normal(rng, 20_000), round(20_000 * errors))
        found.append(needed(stable, canary, Kind.FINE, step=50))
    assert np.median(found) <= most


def test_a_third_of_an_octave_is_granted_and_no_more() -> None:
    stable = tally(10_000, at=20)
    assert judge(stable, tally(3000, at=21)).kind is Kind.FINE
    assert judge(stable, tally(30, at=22)).kind is Kind.WORSE
    objective = Settings(slow_margin=None)
    assert judge(stable, tally(3000, at=22), p99=0.2, settings=objective).kind is Kind.FINE
    slow = judge(stable, tally(30, at=30), p99=0.2, settings=objective)
    assert slow.kind is Kind.WORSE
    assert "it took longer than 203 ms for 30 of 30 (100.0 %), stable 0 of 10000" in slow.text


NONSENSE = [
    replace(tally(100), requests=-1),
    replace(tally(100), failed=-1),
    replace(tally(100), failed=101),
    replace(tally(100), requests=99),
    replace(tally(100), buckets=(0,) * 5),
    replace(tally(100), requests=10**15),
    replace(tally(100), requests=100.0),  # type: ignore[arg-type]
    replace(tally(100), requests=math.nan),  # type: ignore[arg-type]
    replace(tally(100), requests=True),
    replace(tally(100), buckets=(-1, 1, *(0,) * (CLASSES - 2))),
]


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_what_makes_no_sense_says_nothing(nonsense: Tally) -> None:
    for pair in ((nonsense, tally(0, 50)), (tally(5000), nonsense)):
        found = judge(*pair)
        assert (found.kind, found.confidence) == (Kind.UNDECIDED, 0.0)


@pytest.mark.parametrize("p99", [0.0, -1.0, math.nan, math.inf])
def test_an_objective_without_sense_says_nothing(p99: float) -> None:
    assert judge(tally(5000), tally(0, 50), p99=p99).kind is Kind.UNDECIDED


@pytest.mark.parametrize(
    ("stable", "canary"),
    [
        (Tally(), Tally()),
        (Tally(), tally(0, 100)),
        (Tally(), tally(10_000)),
        (tally(10_000), Tally()),
        (tally(0, 10_000), tally(0, 100)),
    ],
)
def test_without_anything_to_compare_there_is_no_verdict(stable: Tally, canary: Tally) -> None:
    assert judge(stable, canary).kind is Kind.UNDECIDED


def test_without_latencies_nothing_is_fine_but_errors_show() -> None:
    untimed = replace(tally(), requests=10_000)
    assert judge(untimed, replace(tally(), requests=5000)).kind is Kind.UNDECIDED
    assert judge(untimed, tally(0, 10)).kind is Kind.WORSE


counts = st.integers(0, 3000)


@given(counts, counts, counts, counts)
def test_never_both_and_confidence_is_a_share(a: int, b: int, c: int, d: int) -> None:
    worse, fine = log_e_values(np.array([float(a)]), a + b, np.array([float(c)]), c + d, 0.01)
    assert min(worse[0], fine[0]) <= 1e-9
    found = judge(tally(b, a), tally(d, c))
    assert 0 <= found.confidence <= 1
    if found.kind is not Kind.UNDECIDED:
        assert found.confidence >= 0.99


@given(st.integers(1, 3000), st.integers(5, 3000))
def test_one_more_error_never_speaks_for_a_canary(healthy: int, requests: int) -> None:
    few, more = (
        log_e_values(np.array([0.0]), healthy, np.array([float(c)]), requests, 0.01)
        for c in (requests // 2, requests // 2 + 1)
    )
    assert max(more[0][0], 0) >= max(few[0][0], 0) - 1e-9
    assert max(more[1][0], 0) <= max(few[1][0], 0) + 1e-9


def test_since() -> None:
    before, now = tally(10, 1), tally(15, 3, retried=2)
    rest = now.since(before)
    assert (rest.requests, rest.failed, rest.retried, rest.timed) == (9, 2, 2, 5)
    assert now.since(None) == now
    assert before.since(now) == before, "it began anew"
    assert rest + before == now


@pytest.mark.parametrize(
    "wrong", [{"confidence": 1.0}, {"confidence": 0.2}, {"error_margin": 0.0}, {"slow_margin": 1.0}]
)
def test_settings_without_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="margins"):
        Settings(**wrong)  # type: ignore[arg-type]
