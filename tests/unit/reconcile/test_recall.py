"""What Prometheus knows of the last minutes, asked once."""

from dataclasses import dataclass
from typing import Any

from conch.api.signals import Key
from conch.clients.prometheus_fake import FakePrometheus
from conch.decisions.placement import Ledger
from conch.decisions.scaling import ScalingState, ServiceLoad
from conch.metrics.queries import queries
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.recall import BACK_S, LASTS_S, STEP_S, Recall
from conch.reconcile.scaling import Measurement, load_of, signals_key
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import current_revision, gathered, of_revision, store


@dataclass
class Watch:
    """A clock that a test sets: on the wall a million seconds more than the other."""

    now: float = 5000.0

    def wall(self) -> float:
        return self.now + 1e6

    def monotonic(self) -> float:
        return self.now


def service() -> ServiceFacts:
    revision = current_revision()
    sets = of_revision(bodies.replica_set(replicas=2), revision)
    pods = [of_revision(bodies.pod(f"p{n}"), revision) for n in range(2)]
    given: dict[str, Any] = {"ReplicaSet": sets, "Pod": pods, "Service": bodies.service(revision)}
    (found,) = gathered(store(ModelService=bodies.model_service(), **given)).services
    return found


def load(facts: ServiceFacts) -> ServiceLoad:
    return load_of(facts, Measurement({}), Ledger(), now=0.0, load_seconds={})


def prometheus(key: Key, watch: Watch) -> FakePrometheus:
    """Return one that tells of two pods that serve 8 items/s."""
    labels = {
        "namespace": key.namespace,
        "conch_dev_service": key.service,
        "conch_dev_revision": key.revision,
        "conch_dev_pool": key.pool,
        "model": "digits",
    }
    values = dict.fromkeys(("inferences", "requests", "executions"), 8.0)
    values |= {"pods": 2.0, "scraped": watch.wall(), "scraped_first": watch.wall()}
    return FakePrometheus({queries()[name]: [(labels, v)] for name, v in values.items()})


async def test_a_service_gets_its_past_once() -> None:
    watch, facts = Watch(), service()
    recall, source = Recall(watch), prometheus(signals_key(facts, "a100"), watch)
    assert recall.state(facts, load(facts), ScalingState()) == ScalingState()
    await recall.ask(source, {})
    assert len(source.asked) == BACK_S / STEP_S + 1
    found = recall.state(facts, load(facts), ScalingState())
    assert found.samples
    assert all(s.time <= watch.now for s in found.samples)
    assert recall.state(facts, load(facts), ScalingState()) == ScalingState()


async def test_without_an_answer_all_begins_without_a_past() -> None:
    watch, facts = Watch(), service()
    recall = Recall(watch)
    await recall.ask(FakePrometheus(down="gone"), {})
    assert recall.state(facts, load(facts), ScalingState()) == ScalingState()


async def test_a_service_that_comes_later_has_none() -> None:
    watch, facts = Watch(), service()
    recall = Recall(watch)
    await recall.ask(prometheus(signals_key(facts, "a100"), watch), {})
    watch.now += LASTS_S + 1
    assert recall.state(facts, load(facts), ScalingState()) == ScalingState()
