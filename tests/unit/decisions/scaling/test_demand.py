"""What a service is asked for, from samples five seconds apart."""

import pytest

from conch.decisions.scaling.demand import BUSY, PENDING, QUEUE, Sample, demand, pressed, sampled


def told(*rates: float, signs: tuple[int, ...] = (), backlog: float = 0.0) -> tuple[Sample, ...]:
    samples: tuple[Sample, ...] = ()
    for n, rate in enumerate(rates):
        sign = signs[n - len(rates)] if len(rates) - n <= len(signs) else 0
        samples = sampled(
            samples, time=5.0 * n, arrivals=rate, backlog=backlog, signs=sign, window=60.0
        )
    return samples


def asked(samples: tuple[Sample, ...], load_seconds: float = 20.0) -> float:
    return demand(samples, window=60.0, load_seconds=load_seconds).total


def test_nothing_is_known_at_first() -> None:
    assert asked(()) == 0.0
    assert asked(told(100)) == 0.0


def test_a_steady_load_is_its_mean() -> None:
    assert asked(told(*[10.0] * 12)) == pytest.approx(10)


def test_a_second_sample_confirms_a_jump() -> None:
    assert asked(told(*[10.0] * 10, 50)) == pytest.approx(10)
    assert asked(told(*[10.0] * 10, 50, 60)) == pytest.approx(50)


def test_two_signs_confirm_a_jump_at_once() -> None:
    assert asked(told(*[10.0] * 10, 50, signs=(QUEUE | PENDING,))) == pytest.approx(50)
    assert asked(told(*[10.0] * 10, 50, signs=(QUEUE,))) == pytest.approx(10)


def test_an_odd_sample_never_counts_not_even_later() -> None:
    samples = told(*[10.0] * 6, 1e9, *[10.0] * 3)
    assert asked(samples) == pytest.approx(10)


def test_a_drop_shows_slowly() -> None:
    assert asked(told(*[50.0] * 12, 0, 0)) > 40


def test_only_the_window_counts() -> None:
    assert asked(told(*[50.0] * 12, *[5.0] * 14)) == pytest.approx(5)


def test_the_change_of_what_waits_is_arrivals_too() -> None:
    before = told(10, 10)
    after = sampled(before, time=10, arrivals=10, backlog=50, signs=0, window=60)
    assert after[-1].rate == pytest.approx(20)


def test_more_leaving_the_queue_than_served_is_no_negative_load() -> None:
    before = told(10, 10, backlog=1000.0)
    after = sampled(before, time=10, arrivals=1, backlog=0, signs=0, window=60)
    assert after[-1].rate == 0


@pytest.mark.parametrize(("load_seconds", "extra"), [(20.0, 10.0), (60.0, 5.0)])
def test_a_backlog_is_worked_off_in_the_load_time(load_seconds: float, extra: float) -> None:
    samples = told(*[10.0] * 6, backlog=300.0)
    assert asked(samples, load_seconds) == pytest.approx(10 + extra)


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        ((0, 0), False),
        ((0, QUEUE), False),
        ((QUEUE, QUEUE), True),
        ((QUEUE, PENDING), False),
        ((0, QUEUE | BUSY), True),
        ((BUSY, BUSY), False),
    ],
)
def test_pressure_takes_two_signs_or_two_samples(signs: tuple[int, int], expected: bool) -> None:
    assert pressed(told(1, 1, signs=signs)) is expected


def test_busy_instances_are_pressure_while_nothing_is_known_of_them() -> None:
    assert pressed(told(1, 1, signs=(BUSY, BUSY)), alone=BUSY | QUEUE)
