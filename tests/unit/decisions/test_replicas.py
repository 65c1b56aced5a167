"""Stories of one service: growing, shrinking, moving, updating; each step from its facts alone."""

import pytest

from conch.api.service import ModelServiceSpec
from conch.decisions.fleet import Amounts, Shape
from conch.decisions.placement import Ledger
from conch.decisions.steps import SetPlan
from tests.unit.decisions.stories import (
    NOW,
    drained,
    gated,
    names,
    node,
    planned,
    pod,
    pool,
    replica_set,
    service,
)


class TestGrowing:
    def test_the_first_replicas_are_made_with_the_gate(self) -> None:
        plan = planned(service(serving_revision=None), 2)
        assert plan.sets == (SetPlan("r1", "a", 2, gated=True, target=2),)
        assert plan.serving_revision == "r1"

    def test_nothing_is_made_that_fits_nowhere(self) -> None:
        plan = planned(service(), 3, pool("a", node("n1", gpus=4, used=4)))
        assert plan.sets == ()
        assert plan.shortage == 3
        assert plan.obstacles

    def test_gate_and_number_rise_in_one_write(self) -> None:
        plan = planned(service(replica_set(1), pod("p1")), 3)
        assert plan.sets == (SetPlan("r1", "a", 3, gated=True, target=3),)

    def test_each_gated_pod_gets_a_node(self) -> None:
        parts = (replica_set(3, gated=True), pod("p1"), gated("p2"), gated("p3"))
        where = pool("a", node("n1", gpus=2, used=1), node("n2", gpus=4))
        plan = planned(service(*parts), 3, where)
        # One of them keeps away from p1; then the tighter fit counts.
        assert [(a.pod.name, a.node) for a in plan.admissions] == [("p2", "n2"), ("p3", "n1")]
        assert plan.sets[0].gated

    def test_a_service_with_standby_spreads_over_zones(self) -> None:
        zones = {"n1": "east", "n2": "east", "n3": "west", "n4": "west"}
        nodes = [node(n, labels={"topology.kubernetes.io/zone": z}) for n, z in zones.items()]
        parts = (replica_set(3, gated=True), pod("p1"), gated("p2"), gated("p3"))
        for standby, expected in ((0, ["n2", "n3"]), (1, ["n3", "n2"])):
            spec = {
                "model": {"name": "digits"},
                "scaling": {"maxReplicas": 3, "standby": standby},
            }
            of = service(*parts, spec=ModelServiceSpec.model_validate(spec))
            plan = planned(of, 3, pool("a", *nodes))
            assert [a.node for a in plan.admissions] == expected

    def test_the_gate_goes_once_every_replica_has_its_node(self) -> None:
        waiting = pod("p2", node=None, ready=False)
        plan = planned(service(replica_set(2, gated=True), pod("p1"), waiting), 2)
        assert plan.sets[0].gated
        plan = planned(service(replica_set(2, gated=True), pod("p1"), pod("p2")), 2)
        assert plan.sets == (SetPlan("r1", "a", 2, gated=False, target=2),)

    def test_the_gate_stays_while_the_controller_has_not_seen_it(self) -> None:
        parts = (replica_set(2, gated=True, observed=False), pod("p1"), pod("p2"))
        assert planned(service(*parts), 2).sets[0].gated

    def test_at_rest_nothing_is_planned(self) -> None:
        plan = planned(service(replica_set(2), pod("p1"), pod("p2")), 2)
        assert plan.sets == (SetPlan("r1", "a", 2, gated=False, target=2),)
        assert [*plan.admissions, *plan.drains, *plan.restores, *plan.deletions] == []
        assert plan.wake_after is None

    def test_growth_goes_to_the_preferred_pool_first(self) -> None:
        pools = pool("a", node("n1", gpus=1)), pool("b", node("m1", gpus=4))
        plan = planned(service(), 3, *pools)
        assert {s.pool: s.replicas for s in plan.sets} == {"a": 1, "b": 2}

    def test_elastic_pools_take_all_and_pin_nothing(self) -> None:
        parts = (replica_set(2, gated=True), gated("p1"), gated("p2"))
        plan = planned(service(*parts), 2, pool("a", elastic=True))
        assert [a.node for a in plan.admissions] == [None, None]
        assert not plan.shortage

    def test_the_gate_does_not_wait_for_an_autoscaler(self) -> None:
        waiting = pod("p1", node=None, pinned=None, ready=False, unschedulable="no node")
        plan = planned(service(replica_set(1, gated=True), waiting), 1, pool("a", elastic=True))
        assert not plan.sets[0].gated

    def test_gated_pods_without_room_leave_and_the_gate_with_them(self) -> None:
        """Another took the place. A gate kept for them would hold back lost pods too."""
        parts = (replica_set(2, gated=True), pod("p1"), gated("p2"))
        full = pool("a", node("n1", gpus=1, used=1))
        plan = planned(service(*parts), 2, full)
        assert plan.sets == (SetPlan("r1", "a", 1, gated=True, target=1),)
        assert plan.shortage == 1
        after = planned(service(replica_set(1, gated=True), pod("p1")), 2, full)
        assert after.sets == (SetPlan("r1", "a", 1, gated=False, target=1),)

    def test_the_order_of_pods_and_nodes_does_not_matter(self) -> None:
        pods, nodes = [gated(f"p{i}") for i in range(3)], [node("n1", gpus=2), node("n2", gpus=2)]
        current = replica_set(3, gated=True)
        one = planned(service(current, *pods), 3, pool("a", *nodes))
        other = planned(service(*reversed(pods), current), 3, pool("a", *reversed(nodes)))
        assert one == other

    def test_two_services_never_get_the_same_gpu(self) -> None:
        ledger, where = Ledger(), pool("a", node("n1", gpus=1))
        parts = (replica_set(1, gated=True), gated("p1"))
        first = planned(service(*parts), 1, where, ledger=ledger)
        second = planned(service(*parts), 1, where, ledger=ledger)
        assert len(first.admissions) == 1
        assert not second.admissions
        assert second.shortage == 1


class TestShrinking:
    """From two replicas to one, step by step."""

    def test_first_the_chosen_one_loses_its_traffic_and_the_template_gets_the_gate(self) -> None:
        old, new = pod("p1"), pod("p2", created=NOW - 10)
        plan = planned(service(replica_set(2), old, new), 1)
        assert plan.sets == (SetPlan("r1", "a", 2, gated=True, target=1),)
        assert names(plan.drains) == ["p2"]
        assert not plan.deletions
        assert plan.wake_after == 3.0

    def test_then_it_waits_until_no_node_sends_requests(self) -> None:
        parts = (replica_set(2, gated=True), pod("p1"), drained("p2", ago=2.0))
        plan = planned(service(*parts), 1)
        assert not plan.deletions
        assert plan.wake_after == 1.0

    def test_then_it_is_deleted(self) -> None:
        parts = (replica_set(2, gated=True), pod("p1"), drained("p2", ago=3.0))
        plan = planned(service(*parts), 1)
        assert names(plan.deletions) == ["p2"]
        assert plan.sets[0].replicas == 2

    @pytest.mark.parametrize("in_flight", [1, None])
    def test_not_while_requests_are_under_way_or_nobody_tells(self, in_flight: int | None) -> None:
        """Half a minute at most, the default of scaling.drainTimeout."""
        for ago, waits, gone in ((3.0, 27.0, []), (29.0, 1.0, []), (30.0, None, ["p2"])):
            leaving = drained("p2", ago=ago, in_flight=in_flight)
            plan = planned(service(replica_set(2, gated=True), pod("p1"), leaving), 1)
            assert names(plan.deletions) == gone
            assert plan.wake_after == waits

    def test_a_drain_time_out_shortens_no_settling(self) -> None:
        spec = {"model": {"name": "digits"}, "scaling": {"drainTimeout": "1s"}}
        parts = (replica_set(2, gated=True), pod("p1"), drained("p2", ago=2.0, in_flight=5))
        of = service(*parts, spec=ModelServiceSpec.model_validate(spec))
        assert planned(of, 1).wake_after == 1.0

    def test_not_before_its_replacement_is_sure_to_be_gated(self) -> None:
        for current in (replica_set(2), replica_set(2, gated=True, observed=False)):
            plan = planned(service(current, pod("p1"), drained("p2", ago=60)), 1)
            assert not plan.deletions

    def test_replicas_are_not_lowered_before_the_replacement_is_there(self) -> None:
        """The controller may still count the deleted pod, and would take the other one for it."""
        gone = drained("p2", ago=9, deleting=True)
        plan = planned(service(replica_set(2, gated=True), pod("p1"), gone), 1)
        assert plan.sets == (SetPlan("r1", "a", 2, gated=True, target=1),)
        assert [*plan.drains, *plan.deletions] == []

    def test_lowering_takes_the_gated_replacement(self) -> None:
        gone = drained("p2", ago=9, deleting=True)
        plan = planned(service(replica_set(2, gated=True), pod("p1"), gone, gated("p3")), 1)
        assert plan.sets == (SetPlan("r1", "a", 1, gated=True, target=1),)
        assert not plan.admissions

    def test_a_gated_pod_is_not_counted_twice(self) -> None:
        """From 5 over 4 to 3: the gated one is gone, but its deletion was not heard of yet."""
        running = [pod(f"p{i}") for i in range(1, 5)]
        of = service(replica_set(4, gated=True), *running, gated("p5"))
        plan = planned(of, 3, pool("a", node("n1", gpus=5, used=4)))
        assert plan.sets[0].replicas == 4

    def test_replicas_that_a_quota_refuses_cost_no_running_one(self) -> None:
        parts = (replica_set(4, gated=True, refusal="exceeded quota"), pod("p1"), pod("p2"))
        plan = planned(service(*parts), 2)
        assert plan.sets == (SetPlan("r1", "a", 2, gated=True, target=2),)
        assert not plan.drains

    def test_replicas_that_are_not_made_yet_cost_no_running_one(self) -> None:
        parts = (replica_set(3, gated=True), pod("p1"), pod("p2"))
        plan = planned(service(*parts), 2)
        assert not plan.drains
        assert plan.sets[0].replicas == 3

    def test_the_newest_that_starts_goes_first(self) -> None:
        starting = pod("p2", ready=False, created=NOW - 50)
        newer = pod("p3", ready=False, created=NOW - 20)
        plan = planned(service(replica_set(3, gated=True), pod("p1"), starting, newer), 2)
        assert names(plan.deletions) == ["p3"]
        assert not plan.drains

    def test_what_serves_goes_last_wherever_it_is(self) -> None:
        """The preferred pool is left first where only there nothing serves yet."""
        pools = pool("a", node("n1", used=1)), pool("b", node("m1", used=1))
        starting = pod("p1", ready=False)
        serving = pod("p2", pool="b", node="m1", pinned="m1")
        parts = (replica_set(1, gated=True), replica_set(1, pool="b"), starting, serving)
        plan = planned(service(*parts), 1, *pools)
        assert names(plan.deletions) == ["p1"]
        assert not plan.drains

    def test_among_equals_the_least_preferred_pool_is_left_first(self) -> None:
        pools = pool("a", node("n1", used=1)), pool("b", node("m1", used=1))
        other = pod("p2", pool="b", node="m1", pinned="m1", created=NOW - 9000)
        plan = planned(
            service(replica_set(1), replica_set(1, pool="b"), pod("p1"), other), 1, *pools
        )
        assert names(plan.drains) == ["p2"]

    def test_a_drained_pod_that_may_stay_gets_its_traffic_back(self) -> None:
        parts = (replica_set(2, gated=True), pod("p1"), drained("p2", ago=1))
        plan = planned(service(*parts), 2)
        assert names(plan.restores) == ["p2"]
        assert not plan.deletions

    def test_the_one_that_drains_stays_the_chosen_one(self) -> None:
        newer = pod("p3", created=NOW - 1)
        parts = (replica_set(3, gated=True), pod("p1"), drained("p2", ago=1), newer)
        plan = planned(service(*parts), 2)
        assert [*plan.drains, *plan.restores] == []


class TestBrokenPlaces:
    def test_a_lost_pod_that_waits_is_left_to_the_scheduler(self) -> None:
        waiting = pod("p1", node=None, pinned=None, ready=False, unschedulable="no node")
        plan = planned(service(replica_set(1), waiting), 1, pool("a", node("n1", gpus=1, used=1)))
        assert plan.sets == (SetPlan("r1", "a", 1, gated=False, target=1),)
        assert not plan.deletions
        assert plan.shortage == 1

    def test_it_moves_where_there_is_room(self) -> None:
        waiting = pod("p1", node=None, pinned=None, ready=False, unschedulable="no node")
        pools = pool("a", node("n1", gpus=1, used=1)), pool("b", node("m1"))
        plan = planned(service(replica_set(1), waiting), 1, *pools)
        assert {s.pool: s.target for s in plan.sets} == {"a": 0, "b": 1}

    def test_a_pod_pinned_to_a_node_that_filled_up_is_placed_again(self) -> None:
        pinned = pod("p1", node=None, ready=False, unschedulable="no node")
        where = pool("a", node("n1", gpus=1, used=1), node("n2"))
        first = planned(service(replica_set(1), pinned), 1, where)
        assert first.sets[0].gated
        assert not first.deletions
        second = planned(service(replica_set(1, gated=True), pinned), 1, where)
        assert names(second.deletions) == ["p1"]
        third = planned(service(replica_set(1, gated=True), gated("p2")), 1, where)
        assert [a.node for a in third.admissions] == ["n2"]

    def test_a_refusal_that_the_books_do_not_show_is_given_time(self) -> None:
        def left(age: float) -> list[str]:
            refused = pod("p1", node=None, ready=False, unschedulable="why", created=NOW - age)
            return names(planned(service(replica_set(1, gated=True), refused), 1).deletions)

        assert left(299) == []
        assert left(300) == ["p1"]

    def test_a_pod_on_a_vanished_node_is_placed_again(self) -> None:
        lost = pod("p1", node="gone", pinned="gone", lost=True)
        where = pool("a", node("n2"))
        plan = planned(service(replica_set(1, gated=True), lost), 1, where)
        assert names(plan.deletions) == ["p1"]
        assert plan.sets == (SetPlan("r1", "a", 1, gated=True, target=1),)

    def test_a_pod_on_a_silent_node_is_made_again_elsewhere_at_once_and_stays(self) -> None:
        silent = pod("p1", ready=False, stranded=True)
        where = pool("a", node("n1", ready=False, used=1), node("n2"))
        parts = (replica_set(2), silent, pod("p2", node="n2"))
        plan = planned(service(*parts), 2, where)
        assert plan.sets == (SetPlan("r1", "a", 3, gated=True, target=3),)
        assert plan.deletions == ()
        # The node returns: the one that was made meanwhile goes again.
        back = (replica_set(3), pod("p1"), pod("p2"), pod("p3", created=NOW - 5))
        assert names(planned(service(*back), 2, pool("a", node("n1"), node("n2"))).drains) == ["p3"]

    def test_a_pod_on_a_silent_node_is_made_again_in_another_pool(self) -> None:
        silent = pod("p1", ready=False, stranded=True)
        pools = pool("a", node("n1", ready=False, used=1)), pool("b", node("m1"))
        plan = planned(service(replica_set(1), silent), 1, *pools)
        assert {s.pool: (s.replicas, s.gated) for s in plan.sets} == {
            "a": (1, False),
            "b": (1, True),
        }

    def test_where_all_nodes_are_silent_nothing_moves(self) -> None:
        """As after an outage of the API server: the nodes will be back."""
        silent = tuple(pod(n, ready=False, stranded=True) for n in ("p1", "p2"))
        where = pool("a", node("n1", ready=False, used=2))
        plan = planned(service(replica_set(2), *silent), 2, where)
        assert plan.sets == (SetPlan("r1", "a", 2, gated=False, target=2),)
        assert plan.deletions == plan.drains == ()
        assert plan.shortage == 2

    def test_a_stranded_pod_is_the_first_to_be_given_up(self) -> None:
        silent = pod("p1", ready=False, stranded=True)
        where = pool("a", node("n1", ready=False, used=1), node("n2"))
        parts = (replica_set(3, gated=True), silent, pod("p2", node="n2"), pod("p3", node="n2"))
        plan = planned(service(*parts), 1, where)
        assert (names(plan.deletions), names(plan.drains)) == (["p1"], [])

    def test_a_pod_not_looked_at_yet_counts_where_it_will_run(self) -> None:
        """Else its GPU would be given away between its creation and its binding."""
        ledger, where = Ledger(), pool("a", node("n1", gpus=1))
        fresh = pod("p1", node=None, pinned=None, ready=False)
        planned(service(replica_set(1), fresh), 1, where, ledger=ledger)
        assert planned(service(), 1, where, ledger=ledger).shortage == 1

    def test_a_copied_replica_set_does_no_harm(self) -> None:
        copy = replica_set(5, name="digits-r1-a-copy", uid="other")
        plan = planned(service(copy, replica_set(1), pod("p1")), 1)
        assert plan.sets == (SetPlan("r1", "a", 1, gated=False, target=1),)


class TestRevisedPlacement:
    def test_what_serves_elsewhere_stays_until_as_much_serves_here(self) -> None:
        """The service may no longer use pool b."""
        where = pool("a", node("n1"))
        old = pod("p1", pool="b", node="m1")
        first = planned(service(replica_set(1, pool="b"), old), 1, where)
        assert {s.pool: s.target for s in first.sets} == {"a": 1, "b": 1}
        assert not first.drains
        starting = (replica_set(1), pod("p2", ready=False))
        second = planned(service(replica_set(1, pool="b"), old, *starting), 1, where)
        assert not second.drains
        third = planned(service(replica_set(1, pool="b"), old, replica_set(1), pod("p2")), 1, where)
        assert names(third.drains) == ["p1"]

    def test_where_nothing_is_free_it_goes_on(self) -> None:
        old = pod("p1", pool="b", node="m1")
        full = pool("a", node("n1", gpus=1, used=1))
        plan = planned(service(replica_set(1, pool="b"), old), 1, full)
        assert not plan.drains
        assert plan.shortage == 1


class TestUpdating:
    """Revision r2 replaces r1."""

    def test_the_old_one_keeps_everything_while_the_new_one_starts(self) -> None:
        new = (replica_set(2, revision="r2"), pod("n1", revision="r2"))
        starting = pod("n2", revision="r2", ready=False)
        of = service(replica_set(2), pod("p1"), pod("p2"), *new, starting, revision="r2")
        plan = planned(of, 2, pool("a", node("n1", gpus=8, used=4)))
        assert plan.serving_revision == "r1"
        assert not plan.drains
        assert SetPlan("r1", "a", 2, gated=False, target=2) in plan.sets

    def test_the_new_one_takes_over_once_all_of_it_answers(self) -> None:
        new = [pod(f"n{i}", revision="r2") for i in (1, 2)]
        olds = [pod(f"p{i}") for i in (1, 2)]
        sets = (replica_set(2), replica_set(2, revision="r2"))
        where = pool("a", node("n1", gpus=8, used=4))
        first = planned(service(*sets, *olds, *new, revision="r2"), 2, where)
        assert first.serving_revision == "r2"
        assert not first.drains
        after = service(*sets, *olds, *new, revision="r2", serving_revision="r2")
        assert names(planned(after, 2, where).drains) == ["p1", "p2"]

    def test_an_empty_old_revision_is_retired(self) -> None:
        sets = (replica_set(0), replica_set(1, revision="r2"))
        of = service(*sets, pod("n1", revision="r2"), revision="r2", serving_revision="r2")
        plan = planned(of, 1)
        assert [s.revision for s in plan.retired] == ["r1"]
        assert [s.revision for s in plan.sets] == ["r2"]

    def test_one_with_a_pod_that_still_ends_is_not(self) -> None:
        sets = (replica_set(0), replica_set(1, revision="r2"))
        pods = (pod("p1", deleting=True), pod("n1", revision="r2"))
        of = service(*sets, *pods, revision="r2", serving_revision="r2")
        assert not planned(of, 1).retired

    def test_a_full_pool_is_swapped_replica_by_replica(self) -> None:
        olds = [pod(f"p{i}") for i in (1, 2, 3)]
        full = pool("a", node("n1", gpus=3, used=3))
        plan = planned(service(replica_set(3), *olds, revision="r2"), 3, full)
        assert plan.shortage == 3
        assert len(plan.drains) == 1
        assert SetPlan("r1", "a", 3, gated=True, target=2) in plan.sets

    def test_the_last_replica_that_answers_is_never_swapped(self) -> None:
        full = pool("a", node("n1", gpus=1, used=1))
        plan = planned(service(replica_set(1), pod("p1"), revision="r2"), 1, full)
        assert not plan.drains
        assert plan.shortage == 1

    def test_in_a_full_pool_what_does_not_answer_makes_room(self) -> None:
        """A revision that never loads, in the way of the one that mends it."""
        broken = pod("p1", ready=False)
        full = pool("a", node("n1", gpus=1, used=1))
        plan = planned(service(replica_set(1, gated=True), broken, revision="r2"), 1, full)
        assert names(plan.deletions) == ["p1"]
        assert plan.serving_revision == "r1"

    def test_a_moment_without_an_answer_hands_nothing_over(self) -> None:
        """The old one's nodes restart while a broken new revision waits for its chance."""
        old, new = pod("p1", ready=False), pod("n1", revision="r2", ready=False)
        sets = (replica_set(1), replica_set(1, revision="r2"))
        plan = planned(service(*sets, old, new, revision="r2"), 1)
        assert plan.serving_revision == "r1"
        assert not plan.deletions

    def test_zero_replicas_and_a_new_revision_come_to_zero(self) -> None:
        first = planned(service(replica_set(1), pod("p1"), revision="r2"), 0)
        assert names(first.drains) == ["p1"]
        after = planned(service(replica_set(0), revision="r2"), 0)
        assert after.serving_revision == "r2"

    def test_the_old_ones_waiting_pods_leave(self) -> None:
        """It was growing when the new revision came; a gate kept would hold back lost pods."""
        parts = (replica_set(2, gated=True), pod("p1"), gated("p2"))
        plan = planned(service(*parts, revision="r2"), 2)
        assert SetPlan("r1", "a", 1, gated=True, target=1) in plan.sets
        assert not plan.admissions

    def test_a_model_that_is_gone_changes_nothing_that_runs(self) -> None:
        plan = planned(service(replica_set(1), pod("p1"), revision=None), 1)
        assert plan.sets == (SetPlan("r1", "a", 1, gated=False, target=1),)
        assert plan.serving_revision == "r1"

    def test_without_any_revision_there_is_nothing_to_do(self) -> None:
        assert planned(service(revision=None, serving_revision=None), 1).sets == ()


class TestShapes:
    def test_large_replicas_leave_room_for_small_ones(self) -> None:
        four = Shape(Amounts(gpus=4, pods=1), ())
        plan = planned(service(), 2, pool("a", node("n1", gpus=4), node("n2", gpus=3)), shape=four)
        assert plan.sets[0].replicas == 1
        assert plan.shortage == 1
