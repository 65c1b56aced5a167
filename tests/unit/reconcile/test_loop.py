"""What the loop hands to decisions, on a machine that is slow between two of its looks."""

from collections import Counter
from typing import Any

import pytest

from conch.api.signals import Key, Signals
from conch.provisioning.snapshot import Images
from conch.reconcile.loop import Reconciler
from conch.reconcile.settings import Settings
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import current_revision, gathered, of_revision, store


class SlowClock:
    """Time passes whenever somebody looks, and more each time."""

    def __init__(self) -> None:
        self.now, self.looks = 100.0, 0

    def wall(self) -> float:
        return 1.8e9

    def monotonic(self) -> float:
        self.looks += 1
        self.now += 0.05 * self.looks
        return self.now


class Api:
    """An API server that is never asked."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()


def test_one_scrape_seen_by_many_ticks_is_one_sample() -> None:
    revision = current_revision()
    kept = store(
        ModelService=bodies.model_service(),
        Service=bodies.service(revision),
        ReplicaSet=of_revision(bodies.replica_set(), revision),
        Pod=of_revision(bodies.pod("p1", metadata={"generateName": "p"}), revision),
    )
    fleet = gathered(kept)
    (facts,) = fleet.services
    api: Any = Api()
    loop = Reconciler(api, kept, Settings(Images(triton="t", conch="c")), SlowClock())
    key = Key(facts.key.namespace, facts.key.name, revision, "a100")
    for scrapes in (1, 2):
        loop.measured({key: Signals(inferences=7.0, requests=7.0, pods_scraped=1)}, fault=None)
        for _ in range(5):
            (outcome,) = loop._decider.decide(fleet, 1.8e9)
        assert outcome.scaling is not None
        samples = outcome.scaling.state.samples
        assert [s.rate for s in samples] == [7.0] * scrapes


def test_where_sharing_fails_everything_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    revision = current_revision()
    kept = store(
        ModelService=bodies.model_service(replicas=3, scaling={"maxReplicas": 3}),
        Service=bodies.service(revision),
        ReplicaSet=of_revision(bodies.replica_set(replicas=2), revision),
        Pod=[
            of_revision(bodies.pod(name, metadata={"generateName": "p"}), revision)
            for name in ("p1", "p2")
        ],
    )
    api: Any = Api()
    loop = Reconciler(api, kept, Settings(Images(triton="t", conch="c")), SlowClock())

    def fails(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(loop._sharing, "decide", fails)
    (outcome,) = loop._decider.decide(gathered(kept), 1.8e9)
    assert [(s.replicas, s.target, s.gated) for s in outcome.plan.sets] == [(2, 2, False)]
    assert [*outcome.plan.drains, *outcome.plan.deletions] == []
    assert outcome.error is None
