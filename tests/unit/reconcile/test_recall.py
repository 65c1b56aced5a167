"""What Prometheus knows of the last minutes, asked once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from conch.api.signals import Key
from conch.clients.prometheus import MetricsUnavailable, Past, Span
from conch.clients.prometheus_fake import FakePrometheus
from conch.decisions.placement import Ledger
from conch.decisions.scaling import ScalingState, ServiceLoad
from conch.decisions.scaling.margin import Margin
from conch.decisions.scaling.recover import shown
from conch.decisions.scaling.season import BUCKET, DAY, DAYS, expected
from conch.metrics.learned import learned_queries
from conch.metrics.queries import queries
from conch.metrics.series import Series
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.recall import (
    BACK_S,
    LASTS_S,
    LEARNED_BACK_S,
    LEARNED_STEP_S,
    STEP_S,
    Recall,
)
from conch.reconcile.scaling import Measurement, load_of
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import current_revision, gathered, of_revision, store

LEARNED = Margin(variance=0.25, dispersion=3.0, beta=2.5, peak=90.0, watched=40_000.0)


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


def operator_before(key: Key) -> dict[str, Any]:
    """Return what Prometheus answers of the operator before, scraped by its pod's namespace."""
    labels = {
        "namespace": "conch-system",
        "exported_namespace": key.namespace,
        "service": key.service,
    }
    asked = learned_queries(LEARNED_STEP_S)
    return {asked[name]: [(labels, value)] for name, value in shown(LEARNED).items()}


async def test_a_service_gets_its_past_once() -> None:
    watch, facts = Watch(), service()
    recall, source = Recall(watch), prometheus(facts.signal_keys["a100"], watch)
    assert recall.state(facts, load(facts), ScalingState()) == ScalingState()
    await recall.ask(source, {})
    steps = BACK_S / STEP_S + 1
    assert len(source.asked) == steps + LEARNED_BACK_S / LEARNED_STEP_S + 1 + DAYS * DAY
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
    await recall.ask(prometheus(facts.signal_keys["a100"], watch), {})
    watch.now += LASTS_S + 1
    assert recall.state(facts, load(facts), ScalingState()) == ScalingState()


async def test_what_was_learned_comes_back_with_the_past() -> None:
    watch, facts = Watch(), service()
    key = facts.signal_keys["a100"]
    recall, source = Recall(watch), prometheus(key, watch)
    source.answers |= operator_before(key)
    await recall.ask(source, {})
    found = recall.state(facts, load(facts), ScalingState())
    assert found.samples
    margin = found.margin
    assert (margin.beta, margin.variance, margin.peak) == (2.5, 0.25, 90.0)
    assert margin.watched == LEARNED.watched


async def test_what_was_learned_comes_back_without_a_past() -> None:
    watch, facts = Watch(), service()
    recall = Recall(watch)
    await recall.ask(FakePrometheus(operator_before(facts.signal_keys["a100"])), {})
    assert recall.state(facts, load(facts), ScalingState()).margin == LEARNED
    assert recall.state(facts, load(facts), ScalingState()) == ScalingState()


async def test_of_another_service_nothing_was_learned() -> None:
    watch, facts = Watch(), service()
    recall = Recall(watch)
    await recall.ask(FakePrometheus(operator_before(Key("vision", "other", "r1", "a100"))), {})
    assert recall.state(facts, load(facts), ScalingState()) == ScalingState()


class Half(FakePrometheus):
    """One that refuses what needs an hour."""

    async def past(self, queries: Mapping[str, str], span: Span) -> Past:
        if span.end - span.start == LEARNED_BACK_S:
            raise MetricsUnavailable("too many samples")
        return await super().past(queries, span)


async def test_what_can_not_be_asked_spoils_nothing_else() -> None:
    watch, facts = Watch(), service()
    recall = Recall(watch)
    await recall.ask(Half(prometheus(facts.signal_keys["a100"], watch).answers), {})
    assert recall.state(facts, load(facts), ScalingState()).samples


class Office(FakePrometheus):
    """One that knows a service that is busy from nine to six, by the clock that decisions use."""

    async def past(self, queries: Mapping[str, str], span: Span) -> Past:
        if span.step != BUCKET:
            return {}
        times = [
            span.start + n * BUCKET for n in range(round((span.end - span.start) / BUCKET) + 1)
        ]
        return {at: {"load": [self._series(at)]} for at in times}

    @staticmethod
    def _series(at: float) -> Series:
        hour = ((at - 1e6 - BUCKET / 2) % 86_400) / 3600
        labels = {"namespace": "vision", "service": "digits"}
        return Series(labels, 50.0 if 9 <= hour < 18 else 4.0, at)


@pytest.mark.parametrize("hour", [5.1, 8.3, 8.99])
async def test_what_other_days_had_at_this_hour_comes_back(hour: float) -> None:
    watch, facts = Watch(5 * 86_400 + hour * 3600), service()
    recall = Recall(watch)
    await recall.ask(Office(), {})
    season = recall.state(facts, load(facts), ScalingState()).season
    assert season.skill > 0.9
    until_nine = (9.0 - hour) * 3600
    assert expected(season, watch.now, until_nine - 1.0) == 4.0
    assert expected(season, watch.now, until_nine + 1.0) == 50.0
