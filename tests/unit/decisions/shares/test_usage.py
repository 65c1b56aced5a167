"""What a tenant used: a mean that forgets, charges that add up, and the past in what is decided."""

import math

import pytest

from conch.decisions.shares import Tenant
from conch.decisions.shares.usage import (
    HALF_LIFE_S,
    Account,
    Held,
    Record,
    decayed,
    entry_penalty,
    recorded,
    same_holdings,
)
from tests.unit.decisions.shares.fleets import a_has_all, world

HOUR = 3600.0


def one(gpus: float = 1.0, charge: float | None = None, price: float = 0.0) -> Held:
    return Held("a100", gpus, gpus if charge is None else charge, price)


class TestDecay:
    def test_who_always_holds_the_same_has_used_that(self) -> None:
        assert decayed(3.0, 3.0, 12345.0, HALF_LIFE_S) == pytest.approx(3.0)

    def test_half_is_forgotten_after_a_half_life(self) -> None:
        assert decayed(8.0, 0.0, HALF_LIFE_S, HALF_LIFE_S) == pytest.approx(4.0)
        assert decayed(0.0, 8.0, HALF_LIFE_S, HALF_LIFE_S) == pytest.approx(4.0)

    def test_two_steps_are_as_one(self) -> None:
        twice = decayed(decayed(5.0, 2.0, 1000.0, 7e3), 2.0, 500.0, 7e3)
        assert twice == pytest.approx(decayed(5.0, 2.0, 1500.0, 7e3))

    def test_a_clock_that_is_set_back_changes_nothing(self) -> None:
        record = Record(usage=4.0, rate=2.0, as_of=1000.0, accounts={"a100": Account(gpus=2.0)})
        assert record.at(400.0) == record


class TestCharges:
    def test_they_are_what_was_held_times_how_long(self) -> None:
        record = recorded(None, [one(2, price=3.0)], 0.0)
        record = recorded(record, [one(1, price=3.0)], HOUR)
        account = record.at(3 * HOUR).accounts["a100"]
        assert account.gpu_hours == pytest.approx(2 + 2 * 1)
        assert account.cost == pytest.approx(3 * 4)

    def test_a_gap_is_charged_at_the_stored_rate(self) -> None:
        record = recorded(None, [one(4)], 0.0)
        record = recorded(record, [], 48 * HOUR)
        assert record.accounts["a100"].gpu_hours == pytest.approx(192)
        assert record.usage == pytest.approx(4 * (1 - 0.5**4))

    def test_what_is_given_back_is_charged_no_longer_and_stays_written(self) -> None:
        record = recorded(recorded(None, [one(4)], 0.0), [], HOUR)
        assert record.rate == 0
        assert record.at(100 * HOUR).accounts["a100"] == Account(gpu_hours=4.0)

    def test_usage_under_a_thousandth_of_a_gpu_is_not_nothing(self) -> None:
        record = recorded(None, [one(0.0004)], 0.0)
        for minute in range(1, 601):
            record = recorded(record, [one(0.0004)], minute * 60.0)
        assert record.accounts["a100"].gpu_hours == pytest.approx(0.004)
        assert record.usage == pytest.approx(0.0004 * (1 - math.pow(0.5, 10 / 12)))

    def test_the_same_holdings_need_no_write_whatever_time_passed(self) -> None:
        old = recorded(None, [one(2), one(1, price=1.0)], 0.0)
        assert same_holdings(old, recorded(old, [one(1, price=1.0), one(2)], HOUR))
        assert not same_holdings(old, recorded(old, [one(2), one(1)], HOUR))
        assert not same_holdings(old, recorded(old, [one(2)], HOUR))


class TestEntryPenalty:
    LOAD = 60.0

    def ahead(self, age: float) -> float:
        return entry_penalty([(1.0, age, self.LOAD)], HALF_LIFE_S)

    def test_a_replica_that_just_began_counts_as_if_it_had_been_there_for_a_load_time(self) -> None:
        assert self.ahead(0.0) == pytest.approx(decayed(0.0, 1.0, self.LOAD, HALF_LIFE_S))

    def test_it_shrinks_as_usage_grows_so_that_nothing_is_charged_twice(self) -> None:
        whole = self.ahead(0.0)
        for age in range(0, 61, 5):
            used = recorded(None, [one()], 0.0).at(float(age)).usage
            assert used + self.ahead(float(age)) == pytest.approx(whole, rel=1e-3)

    @pytest.mark.parametrize("age", [60.0, 61.0, 1e9])
    def test_it_is_over_after_the_load_time(self, age: float) -> None:
        assert self.ahead(age) == 0.0

    def test_a_clock_set_back_charges_nothing_ahead(self) -> None:
        assert self.ahead(-5.0) == 0.0


class TestThePastCounts:
    def test_a_hog_waits_its_turn(self) -> None:
        here = world(Tenant("a", usage=8.0))
        here.want("a", 8)
        here.want("b", 8)
        here.step()
        assert (here.of("a"), here.of("b")) == (0, 8)

    def test_what_it_holds_is_taken_beyond_the_even_share(self) -> None:
        here = a_has_all(Tenant("a", usage=6.0))
        here.want("b", 8)
        here.settle()
        # Weights 0.25 and 1.0 for what a used, 6 of 8: entitled to 1.6 and 6.4.
        assert (here.of("a"), here.of("b")) == (2, 6)

    def test_but_it_never_starves(self) -> None:
        here = world(Tenant("a", usage=1e9), gpus=63)
        here.want("a", 63)
        here.want("b", 63)
        here.step()
        # A tenth of its weight against twice the other's: 1 of 21.
        assert (here.of("a"), here.of("b")) == (3, 60)

    def test_nothing_is_held_back_from_a_hog_that_is_alone(self) -> None:
        here = world(Tenant("a", usage=1e9))
        here.want("a", 8)
        here.step()
        assert here.of("a") == 8
