"""What others are entitled to is taken back by a move, where there is another place."""

from types import SimpleNamespace
from typing import Any, cast

from conch.decisions.fleet import Pod, Service
from conch.decisions.placement import Ledger
from conch.decisions.shares import Grant
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.reclaims import spared
from tests.unit.decisions.stories import ONE_GPU, node, pod, pool, replica_set, service

HERE = pool("a", node("n1", used=4))
FREE, FULL = pool("b", node("m1")), pool("b", node("m1", used=4))
NAME = "digits-reclaim-uid-p1"


def facts(*pods: Pod, other: Any = FREE, **fields: Any) -> ServiceFacts:
    of: Service = service(replica_set(len(pods)), *pods, **fields)
    made = SimpleNamespace(
        key=of.key,
        service=of,
        pools=(HERE, other),
        shapes={"a": ONE_GPU, "b": ONE_GPU},
        migrations=(),
        body={"metadata": {"uid": "owner"}},
    )
    return cast("ServiceFacts", made)


GRANT = Grant({"a": 1}, given_up=frozenset({"uid-p1"}))


def test_who_has_another_place_is_asked_to_move_there() -> None:
    there = facts(pod("p1"), pod("p2"))
    grant, wanted = spared(there, GRANT, Ledger(), {})
    assert (grant.replicas, grant.given_up) == ({"a": 2}, frozenset())
    assert wanted is not None
    made = wanted.to_object()
    assert made["metadata"]["name"] == NAME
    assert made["spec"]["to"] == {"pool": "b"}
    assert made["spec"]["reason"] == "Reclaim"


def test_while_it_moves_it_keeps_its_place_and_is_not_asked_again() -> None:
    there = facts(pod("p1"), pod("p2"), other=FULL)
    under_way = {(there.key.namespace, NAME): False}
    grant, wanted = spared(there, GRANT, Ledger(), under_way)
    assert (grant.given_up, wanted) == (frozenset(), None)


def test_without_another_place_or_after_a_move_that_failed_it_is_drained() -> None:
    full = facts(pod("p1"), pod("p2"), other=FULL)
    assert spared(full, GRANT, Ledger(), {}) == (GRANT, None)
    there = facts(pod("p1"), pod("p2"))
    over = {(there.key.namespace, NAME): True}
    assert spared(there, GRANT, Ledger(), over) == (GRANT, None)


def test_who_answers_nothing_or_is_being_updated_has_nothing_to_be_kept_for() -> None:
    starting = facts(pod("p1", ready=False), pod("p2"))
    assert spared(starting, GRANT, Ledger(), {}) == (GRANT, None)
    updated = facts(pod("p1"), pod("p2"), revision="r2")
    assert spared(updated, GRANT, Ledger(), {}) == (GRANT, None)


def test_one_of_a_service_at_a_time() -> None:
    both = Grant({"a": 0}, given_up=frozenset({"uid-p1", "uid-p2"}))
    grant, wanted = spared(facts(pod("p1"), pod("p2")), both, Ledger(), {})
    assert (grant.replicas, grant.given_up) == ({"a": 2}, frozenset())
    assert wanted is not None
    assert wanted.pod == "p1"
