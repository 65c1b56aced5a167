"""Entitlements by hand: weights, quotas, pools that not all can use, and memory."""

from collections.abc import Sequence

import pytest

from conch.decisions.shares.entitlement import FLOOR, Entrant, entitlements, weights_now

X, Y, BOTH = frozenset("x"), frozenset("y"), frozenset("xy")
ANY = 1000.0


def entitled(*entrants: Entrant, **capacity: float) -> list[float]:
    return entitlements(entrants, capacity)


def approx(expected: Sequence[float]) -> object:
    return pytest.approx(expected, abs=1e-6)


class TestOnePool:
    def test_nobody_is_no_question(self) -> None:
        assert entitled(x=8) == []

    def test_equals_get_the_same(self) -> None:
        found = entitled(Entrant(1, demand={X: ANY}), Entrant(1, demand={X: ANY}), x=8)
        assert found == approx([4, 4])

    def test_three_times_the_weight_is_three_times_as_much(self) -> None:
        found = entitled(Entrant(3, demand={X: ANY}), Entrant(1, demand={X: ANY}), x=8)
        assert found == approx([6, 2])

    def test_what_one_does_not_want_is_the_others(self) -> None:
        one, two, three = (Entrant(1, demand={X: wish}) for wish in (1, ANY, ANY))
        assert entitled(one, two, three, x=8) == approx([1, 3.5, 3.5])

    def test_all_get_what_they_want_where_there_is_enough(self) -> None:
        assert entitled(Entrant(1, demand={X: 3}), Entrant(9, demand={X: 4}), x=8) == approx([3, 4])

    def test_nothing_is_nothing_for_everybody(self) -> None:
        one, two = Entrant(1, quota=2, demand={X: 4}), Entrant(3, demand={X: 4})
        assert entitled(one, two, x=0) == approx([0, 0])

    def test_a_pool_that_is_not_there_is_nothing_too(self) -> None:
        assert entitled(Entrant(1, demand={Y: 4}), x=8) == approx([0])

    def test_a_pool_that_grows_has_all(self) -> None:
        found = entitled(Entrant(1, demand={X: 50}), Entrant(9, demand={X: 60}), x=float("inf"))
        assert found == approx([50, 60])

    def test_who_wants_nothing_is_entitled_to_nothing(self) -> None:
        assert entitled(Entrant(1, quota=4), Entrant(1, demand={X: 8}), x=8) == approx([0, 8])

    def test_a_weight_of_nothing_comes_last_and_breaks_nothing(self) -> None:
        found = entitled(Entrant(0, demand={X: 8}), Entrant(1, demand={X: 6}), x=8)
        assert found == approx([2, 6])


class TestQuotas:
    def test_a_quota_comes_first(self) -> None:
        found = entitled(Entrant(1, demand={X: ANY}), Entrant(1, quota=6, demand={X: ANY}), x=8)
        assert found == approx([2, 6])

    def test_it_is_no_addition(self) -> None:
        found = entitled(Entrant(1, demand={X: ANY}), Entrant(1, quota=3, demand={X: ANY}), x=8)
        assert found == approx([4, 4])

    def test_only_as_far_as_it_is_wanted(self) -> None:
        found = entitled(Entrant(1, demand={X: ANY}), Entrant(1, quota=6, demand={X: 2}), x=8)
        assert found == approx([6, 2])

    @pytest.mark.parametrize(
        ("quotas", "expected"),
        [((6, 6), (4, 4)), ((9, 3), (6, 2)), ((8, 8, 16), (2, 2, 4)), ((12, 0), (8, 0))],
    )
    def test_quotas_that_do_not_fit_are_cut_in_proportion(
        self, quotas: tuple[float, ...], expected: tuple[float, ...]
    ) -> None:
        entrants = [Entrant(1, quota=q, demand={X: ANY}) for q in quotas]
        assert entitled(*entrants, x=8) == approx(expected)

    def test_they_are_cut_where_they_do_not_fit_and_nowhere_else(self) -> None:
        found = entitled(
            Entrant(1, quota=6, demand={X: 6}),
            Entrant(1, quota=6, demand={X: 6}),
            Entrant(1, quota=6, demand={Y: 6}),
            x=8,
            y=8,
        )
        assert found == approx([4, 4, 6])


class TestSeveralPools:
    def test_who_can_use_both_leaves_the_one_to_who_can_not(self) -> None:
        found = entitled(Entrant(1, demand={X: ANY}), Entrant(1, demand={BOTH: ANY}), x=4, y=4)
        assert found == approx([4, 4])

    def test_a_larger_weight_reaches_into_the_shared_pool(self) -> None:
        found = entitled(Entrant(1, demand={X: ANY}), Entrant(3, demand={BOTH: ANY}), x=4, y=4)
        assert found == approx([2, 6])

    def test_who_is_stuck_in_a_small_pool_stays_and_the_others_rise_on(self) -> None:
        found = entitled(
            Entrant(1, demand={X: ANY}),
            Entrant(1, demand={Y: ANY}),
            Entrant(1, demand={BOTH: ANY}),
            x=2,
            y=6,
        )
        assert found == approx([2, 3, 3])

    def test_pools_that_nobody_shares_are_worlds_of_their_own(self) -> None:
        found = entitled(Entrant(9, demand={X: ANY}), Entrant(1, demand={Y: ANY}), x=2, y=6)
        assert found == approx([2, 6])

    def test_a_chain_of_pools(self) -> None:
        """Hall's condition on each union: a is bound by x, then b by x and y, and c by all."""
        found = entitled(
            Entrant(1, demand={X: ANY}),
            Entrant(1, demand={BOTH: ANY}),
            Entrant(1, demand={frozenset("yz"): ANY}),
            x=1,
            y=2,
            z=9,
        )
        assert found == approx([1, 2, 9])

    def test_one_tenant_may_have_services_of_several_reaches(self) -> None:
        mixed = Entrant(1, demand={X: 2, BOTH: 4})
        assert entitled(mixed, Entrant(1, demand={X: ANY}), x=4, y=2) == approx([3, 3])

    def test_an_elastic_pool_frees_the_bounded_one(self) -> None:
        found = entitled(
            Entrant(1, demand={BOTH: 50}), Entrant(1, demand={X: 50}), x=8, y=float("inf")
        )
        assert found == approx([50, 8])

    def test_a_quota_counts_across_pools(self) -> None:
        found = entitled(
            Entrant(1, quota=7, demand={BOTH: ANY}), Entrant(1, demand={X: ANY}), x=4, y=4
        )
        assert found == approx([7, 1])


class TestRounding:
    """A decision that never ends would stop the operator."""

    def test_amounts_too_small_to_tell_apart_end(self) -> None:
        x, y = frozenset("x"), frozenset("y")
        crumbs = [Entrant(1.0, demand={x: 9e-10}) for _ in range(3)]
        found = entitlements([*crumbs, Entrant(1.0, demand={y: 5.0})], {"x": 0.0, "y": 3.0})
        assert found == pytest.approx([0.0, 0.0, 0.0, 3.0], abs=1e-8)

    @pytest.mark.parametrize("light", [1e-12, 1e-6, 1e-3])
    def test_weights_far_apart_share_exactly(self, light: float) -> None:
        x = frozenset("x")
        entrants = [Entrant(w, demand={x: 20.0}) for w in (light, 1000.0, 1000.0)]
        found = entitlements(entrants, {"x": 3.0})
        assert found == pytest.approx([0.0, 1.5, 1.5], abs=1e-5)
        assert sum(found) == pytest.approx(3.0, abs=1e-9)


class TestMemory:
    def test_without_a_past_weights_stand_as_they_are(self) -> None:
        found = weights_now([3, 1], [0, 0], 8)
        assert found[0] / found[1] == pytest.approx(3)

    def test_who_used_its_part_keeps_it(self) -> None:
        assert weights_now([3, 1], [6, 2], 8) == pytest.approx([0.75, 0.25])

    def test_who_used_more_gets_less_and_the_other_more(self) -> None:
        assert weights_now([1, 1], [6, 2], 8) == pytest.approx([0.25, 0.75])

    def test_never_less_than_a_tenth_of_the_weight(self) -> None:
        found = weights_now([1, 1], [8, 0], 8)
        assert found == pytest.approx([FLOOR * 0.5, 1.0])

    @pytest.mark.parametrize("weights", [[0.0, 0.0], [0.0], []])
    def test_weights_of_zero_divide_nothing(self, weights: list[float]) -> None:
        assert weights_now(weights, [1.0] * len(weights), 8) == [0.0] * len(weights)

    def test_a_zero_that_comes_first_takes_nothing_from_the_others(self) -> None:
        assert weights_now([0, 1, 1], [0, 0, 0], 8) == pytest.approx([0, 1, 1])

    def test_a_fleet_of_nothing_remembers_nothing(self) -> None:
        assert weights_now([1, 3], [5, 5], 0) == pytest.approx([0.5, 1.5])
