"""What was decided holds until facts, metrics or time say otherwise."""

from dataclasses import replace
from typing import Any

import pytest

from conch.api.signals import Signals
from conch.decisions.replicas import Plan
from conch.reconcile.resting import Resting
from conch.reconcile.scaling import Measurement, Sample, sample_of
from tests.unit.reconcile import bodies
from tests.unit.reconcile.test_status import facts, outcome

LASTS = 5.0
ONE = Sample((None, "busy"), (100.0,))


def resting(**fields: Any) -> Any:
    """Return the outcome of a service whose only pod has a node."""
    return outcome(facts(bodies.pod("p1")), **fields)


def test_an_outcome_holds_while_all_stays_the_same() -> None:
    of = resting()
    memory = Resting(LASTS)
    assert memory.outcome(of.facts, ONE, 10.0) is None
    memory.note(of, ONE, 10.0, busy=False)
    assert memory.outcome(of.facts, ONE, 14.9) is of


def test_it_ends_with_other_facts_other_metrics_and_time() -> None:
    of = resting()
    memory = Resting(LASTS)
    memory.note(of, ONE, 10.0, busy=False)
    assert memory.outcome(replace(of.facts, versions=("newer",)), ONE, 11.0) is None
    assert memory.outcome(of.facts, Sample((None, "idle"), (100.0,)), 11.0) is None
    # That it was used again meanwhile makes it no younger.
    memory.note(of, ONE, 14.0, busy=False)
    assert memory.outcome(of.facts, ONE, 15.0) is None
    memory.forget([])
    assert memory.outcome(of.facts, ONE, 11.0) is None


def test_one_that_is_seen_again_is_the_same_and_a_later_one_is_not() -> None:
    of = resting().facts
    (key,) = of.signal_keys.values()
    busy = Signals(inferences=3.0, age=2.0, age_oldest=4.0)

    def seen(at: float, age: float, **more: Any) -> Sample:
        signals = {key: replace(busy, age=age, **more)}
        return sample_of(of, Measurement(signals), measured_at=at)

    first = seen(100.0, 2.0)
    assert seen(105.0, 7.1, age_oldest=9.0).repeats(first)
    assert not seen(105.0, 2.0).repeats(first)
    assert not seen(105.0, 7.1, pending=1.0).repeats(first)
    assert not sample_of(of, Measurement({}), measured_at=105.0).repeats(first)
    gone = sample_of(of, Measurement({}, fault="no answer"), measured_at=105.0)
    assert not gone.repeats(sample_of(of, Measurement({}), measured_at=100.0))


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
    memory.note(of, ONE, 10.0, busy=False)
    assert memory.outcome(of.facts, ONE, 10.1) is None


def test_what_is_to_be_written_is_decided_on_each_time() -> None:
    of = resting()
    memory = Resting(LASTS)
    memory.note(of, ONE, 10.0, busy=False)
    memory.note(of, ONE, 10.1, busy=True)
    assert memory.outcome(of.facts, ONE, 10.2) is None


def test_a_pod_without_a_node_is_decided_on_each_time() -> None:
    of = outcome(facts(bodies.pod("p1", node=None)))
    memory = Resting(LASTS)
    memory.note(of, ONE, 10.0, busy=False)
    assert memory.outcome(of.facts, ONE, 10.1) is None
