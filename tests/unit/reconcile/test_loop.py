"""What the loop hands to decisions, on a machine that is slow between two of its looks."""

from collections import Counter
from typing import Any, cast

import pytest

from conch.api.signals import Key, Signals
from conch.decisions.migration import Reserved
from conch.provisioning.snapshot import Images
from conch.reconcile.loop import Reconciler
from conch.reconcile.settings import Planning, Settings
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


def test_room_that_is_kept_for_one_is_not_given_to_another() -> None:
    """The first to choose would take the first node; so it is without anything kept."""
    names = ("digits", "faces")
    unknown = store(ModelService=[bodies.model_service(name, replicas=1) for name in names])
    parts: dict[str, list[Any]] = {"ReplicaSet": [], "Pod": []}
    for facts in gathered(unknown).services:
        name, revision = facts.key.name, str(facts.service.revision)
        waiting, owner = bodies.gated(f"{name}-1"), bodies.replica_set(f"{name}-set")
        for kind, body in (("Pod", waiting), ("ReplicaSet", owner)):
            body["metadata"]["labels"] = bodies.labels(service=name)
            parts[kind].append(of_revision(body, revision))
    kept = store(
        ModelService=[bodies.model_service(name, replicas=1) for name in names],
        Node=[bodies.node("n1", gpus=1), bodies.node("n2", gpus=1)],
        **parts,
    )
    fleet, api = gathered(kept), cast("Any", Api())
    loop = Reconciler(api, kept, Settings(Images(triton="t", conch="c")), SlowClock())

    def places() -> list[str | None]:
        found = loop._decider.decide(fleet, 1.8e9)
        return [a.node for o in found for a in o.plan.admissions]

    assert places() == ["n1", "n2"]
    faces = fleet.services[1]
    need = faces.shapes["a100"].need
    loop._decider._kept.keep([Reserved("n1", "a100", faces.key, need)], (), 1.8e9)
    assert places() == ["n2", "n1"]
    n1 = fleet.pools[0].nodes[0]
    assert loop._decider.ledger.free(n1, fleet.pools[0]).gpus == 0, "booked by faces itself"


def test_single_replicas_are_asked_for_while_an_objective_is_missed() -> None:
    revision = current_revision(objective={"p99": "100ms"})
    kept = store(
        ModelService=bodies.model_service(objective={"p99": "100ms"}),
        Service=bodies.service(revision),
        ReplicaSet=of_revision(bodies.replica_set(), revision),
        Pod=of_revision(bodies.pod("p1", metadata={"generateName": "p"}), revision),
    )
    fleet, api = gathered(kept), cast("Any", Api())
    (facts,) = fleet.services
    images = Images(triton="t", conch="c")

    def asks(p99: float, planning: Planning) -> bool:
        loop = Reconciler(api, kept, Settings(images, planning=planning), SlowClock())
        assert not loop.somebody_late
        key = Key(facts.key.namespace, facts.key.name, revision, "a100")
        loop.measured({key: Signals(pods_scraped=1, p99=p99)}, fault=None)
        loop._decider.decide(fleet, 1.8e9)
        return loop.somebody_late

    assert asks(0.2, Planning.ON)
    assert asks(0.2, Planning.PROPOSE)
    assert not asks(0.2, Planning.OFF)
    assert not asks(0.05, Planning.ON)
