import asyncio
import json

import pytest

from conch.api.signals import Key, Signals
from conch.clients.clock import SystemClock
from conch.clients.prometheus import Prometheus
from conch.metrics.queries import queries
from conch.metrics.signals import parse
from e2e.kubectl import wait_for
from e2e.load import Load, request_body
from e2e.models import DIGITS
from e2e.samples import questions
from e2e.scratch import READY_S, Scratch, sample_objects, uids

pytestmark = pytest.mark.cluster

BATCH, RATE_RPS = 8, 14.0
BOUNDS = {"minReplicas": 1, "maxReplicas": 6, "window": "10s", "scaleDownWindow": "15s"}
NODES = ("a100", "t4")


def test_load_scales_over_both_nodes_and_its_end_back_to_one(place: Scratch) -> None:
    # The slow pool is preferred; its four GPUs are too few for this load, however it is measured.
    wish = {"scaling": BOUNDS, "placement": {"pools": ["t4", "a100"]}}
    place.apply(*sample_objects(place.stage, DIGITS, name="loaded", spec=wish))
    first = place.await_ready("loaded")
    rows = [q.value[0].tolist() for q in questions(DIGITS, BATCH)]
    url = f"http://{place.address('loaded')}:8000/v2/models/{DIGITS.name}/infer"

    def pools() -> set[str]:
        return {p["metadata"]["labels"]["conch.dev/pool"] for p in place.pods("loaded", ready=True)}

    with Load(
        url, request_body(DIGITS.input, "FP32", rows), rate=RATE_RPS, seconds=READY_S
    ) as load:
        wait_for(
            "replicas in both pools",
            lambda: pools() == set(NODES),
            timeout=READY_S,
            seen=lambda: str(place.condition("loaded", "ScalingActive").get("message")),
        )
        assert uids(first) < uids(place.pods("loaded"))
        measured(place)
        explained(place)
    assert load.tally.answered > 0
    assert not load.tally.failures, load.tally.failures[:3]

    place.await_ready("loaded", 1)
    place.await_condition("loaded", "ScalingActive", status="True", reason="Scaling")


def measured(place: Scratch) -> None:
    """Real Triton, scraped by a real Prometheus, gives every signal, and sensible ones."""
    if not place.stage.cluster.prometheus_url:
        return
    prometheus = Prometheus(place.stage.cluster.prometheus_url)

    def signals() -> dict[Key, Signals]:
        answers = asyncio.run(prometheus.query(queries(), SystemClock().wall()))
        assert answers.keys() == queries().keys()
        found = parse(answers)
        return {k: s for k, s in found.items() if k.namespace == place.namespace and s.p99}

    for of in wait_for("signals of the replicas", signals, timeout=READY_S).values():
        assert of.absurd is None
        assert of.pods_scraped >= 1
        assert of.items_per_request == pytest.approx(BATCH, rel=0.01)
        assert of.mean_batch == pytest.approx(BATCH, rel=0.01)  # which is the largest
        assert 0 < of.mean_execution < 5
        assert of.p99 is not None
        assert of.p99 >= of.mean_execution / 2
        assert of.age < 30
    prometheus.close()


def explained(place: Scratch) -> None:
    """The plugin reaches the operator through the API server."""
    words = ("explain", "loaded", "-n", place.namespace, "-o", "json")
    told = json.loads(place.stage.tools.conch(*words))
    assert told["scaling"]["wished"] >= 1, told["notes"]
    assert told["why"]
