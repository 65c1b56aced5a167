import pytest

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
    assert load.tally.answered > 0
    assert not load.tally.failures, load.tally.failures[:3]
    assert uids(first) < uids(place.pods("loaded"))

    place.await_ready("loaded", 1)
    place.await_condition("loaded", "ScalingActive", status="True", reason="Scaling")
