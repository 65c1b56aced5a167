"""How long runs take, learned from samples, and what a replica serves."""

import math
import random

import pytest

from conch.decisions.scaling.capacity import (
    Fit,
    Profile,
    batch_within,
    corrected,
    learned,
    serving_rate,
    teaches,
)


def taught(samples: list[tuple[float, float]], fit: Fit | None = None) -> Fit:
    fit = fit or Fit()
    for batch, seconds in samples:
        fit = learned(fit, batch, seconds)
    return fit


def test_the_line_is_found_from_noisy_samples() -> None:
    true = Profile(0.010, 0.002)
    chance = random.Random(7)
    batches = [chance.uniform(1, 12) for _ in range(200)]
    fit = taught([(b, true.seconds(b) * chance.gauss(1, 0.05)) for b in batches])
    assert fit.profile is not None
    assert fit.profile.fixed == pytest.approx(0.010, rel=0.15)
    assert fit.profile.per_item == pytest.approx(0.002, rel=0.15)


def test_too_few_samples_are_no_profile() -> None:
    assert taught([(1, 0.1)] * 2).profile is None
    assert taught([(1, 0.1)] * 4).profile is not None


def test_batches_that_never_differ_promise_no_gain_from_larger_ones() -> None:
    profile = taught([(2.0, 0.02)] * 20).profile
    assert profile is not None
    assert profile.fixed == pytest.approx(0)
    assert profile.per_item == pytest.approx(0.01)


def test_equal_batches_keep_the_shape_known_before() -> None:
    fit = taught([(2.0, 0.024)] * 200, Fit.seeded(Profile(0.01, 0.001)))
    assert fit.profile is not None
    assert fit.profile.seconds(2.0) == pytest.approx(0.024, rel=0.02)
    assert fit.profile.fixed > 2 * fit.profile.per_item


def test_one_odd_run_moves_a_known_line_little() -> None:
    fit = taught([(1 + n % 4, 0.01 + 0.001 * (1 + n % 4)) for n in range(40)])
    before = fit.profile
    after = learned(fit, 2.0, 50.0).profile
    assert before
    assert after
    assert after.seconds(4) <= 1.1 * before.seconds(4)


def test_a_lasting_change_is_learned() -> None:
    fit = taught([(2.0, 0.01)] * 50)
    fit = taught([(2.0, 0.04)] * 150, fit)
    assert fit.profile is not None
    assert fit.profile.seconds(2.0) == pytest.approx(0.04, rel=0.1)


@pytest.mark.parametrize("sample", [(0.0, 0.1), (1.0, 0.0), (-1.0, 0.1)])
def test_samples_without_runs_teach_nothing(sample: tuple[float, float]) -> None:
    assert learned(Fit(), *sample) == Fit()


@pytest.mark.parametrize(
    ("objective", "batch"), [(None, 16), (0.050, 10), (1.0, 16), (0.012, 1), (0.001, 1)]
)
def test_the_largest_batch_within_half_the_objective(objective: float | None, batch: int) -> None:
    # 5 ms + 2 ms an item: 25 ms hold ten items.
    assert batch_within(Profile(0.005, 0.002), 16, objective) == batch


def test_items_a_second_of_a_replica() -> None:
    rate = serving_rate(Profile(0.005, 0.002), max_batch=16, objective=0.05, instances=2)
    assert rate == pytest.approx(2 * 10 / 0.025)
    assert serving_rate(
        Profile(0.1, 0.0), max_batch=0, objective=None, instances=1
    ) == pytest.approx(10)


def test_a_profile_without_time_says_nothing() -> None:
    assert serving_rate(Profile(0, 0), max_batch=8, objective=0.1, instances=1) is None


@pytest.mark.parametrize(
    ("declared", "measured", "expected"),
    [
        (None, None, None),
        (10.0, None, 10.0),
        (None, 7.0, 7.0),
        (10.0, 8.0, 8.0),
        (10.0, 1.0, 5.0),
        (10.0, 99.0, 15.0),
    ],
)
def test_measured_corrects_declared_within_bounds(
    declared: float | None, measured: float | None, expected: float | None
) -> None:
    assert corrected(declared, measured) == expected


@pytest.mark.parametrize(("share", "expected"), [(0.29, False), (0.5, True), (0.91, False)])
def test_only_a_well_used_replica_teaches(share: float, expected: bool) -> None:
    assert teaches(share) is expected


def test_a_fit_survives_json() -> None:
    fit = taught([(1, 0.1), (4, 0.2), (2, 0.13)])
    assert Fit.from_dict(fit.to_dict()) == fit
    assert Fit.from_dict(Fit().to_dict()) == Fit()


@pytest.mark.parametrize(
    "change", [{"x": "many"}, {"weight": -1.0}, {"y": math.nan}, {"line": {"fixed": 1}}]
)
def test_a_damaged_fit_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="stored fit"):
        Fit.from_dict({**taught([(1, 0.1)]).to_dict(), **change})
