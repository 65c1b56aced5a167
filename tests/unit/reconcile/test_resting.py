"""What was decided holds until facts, metrics or time say otherwise."""

from dataclasses import replace
from typing import Any

import pytest

from conch.decisions.steps import Plan
from conch.reconcile.resting import Resting
from tests.unit.reconcile import bodies
from tests.unit.reconcile.test_status import facts, outcome

LASTS = 5.0


def resting(**fields: Any) -> Any:
    """Return the outcome of a service whose only pod has a node."""
    return outcome(facts(bodies.pod("p1")), **fields)


def test_an_outcome_holds_while_all_stays_the_same() -> None:
    of = resting()
    memory = Resting(LASTS)
    assert memory.outcome(of.facts, 1.0, 10.0) is None
    memory.note(of, 1.0, 10.0, busy=False)
    assert memory.outcome(of.facts, 1.0, 14.9) is of


def test_it_ends_with_other_facts_other_metrics_and_time() -> None:
    of = resting()
    memory = Resting(LASTS)
    memory.note(of, 1.0, 10.0, busy=False)
    assert memory.outcome(replace(of.facts, versions=("newer",)), 1.0, 11.0) is None
    assert memory.outcome(of.facts, 2.0, 11.0) is None
    # That it was used again meanwhile makes it no younger.
    memory.note(of, 1.0, 14.0, busy=False)
    assert memory.outcome(of.facts, 1.0, 15.0) is None
    memory.forget([])
    assert memory.outcome(of.facts, 1.0, 11.0) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"plan": Plan(wake_after=3.0)},
        {"plan": Plan(shortage=1)},
        {"error": "refused"},
    ],
    ids=["time", "room", "a refusal"],
)
def test_what_waits_is_decided_on_each_time(fields: dict[str, Any]) -> None:
    of = resting(**fields)
    memory = Resting(LASTS)
    memory.note(of, 1.0, 10.0, busy=False)
    assert memory.outcome(of.facts, 1.0, 10.1) is None


def test_what_is_to_be_written_is_decided_on_each_time() -> None:
    of = resting()
    memory = Resting(LASTS)
    memory.note(of, 1.0, 10.0, busy=False)
    memory.note(of, 1.0, 10.1, busy=True)
    assert memory.outcome(of.facts, 1.0, 10.2) is None


def test_a_pod_without_a_node_is_decided_on_each_time() -> None:
    of = outcome(facts(bodies.pod("p1", node=None)))
    memory = Resting(LASTS)
    memory.note(of, 1.0, 10.0, busy=False)
    assert memory.outcome(of.facts, 1.0, 10.1) is None
