"""A second start on a node downloads nothing, in a namespace that enforces the restricted standard."""

import numpy as np
import pytest

from e2e.kubectl import wait_for
from e2e.model_server import archive, serving
from e2e.questions import ask_rest
from e2e.scratch import READY_S, Object, Scratch, adding, model, service

pytestmark = pytest.mark.cluster

FILES = {"model.py": adding(1).encode(), "weights.bin": bytes(1 << 20)}


def test_a_second_start_on_a_node_downloads_nothing(place: Scratch) -> None:
    if not place.stage.cluster.local:
        pytest.skip("on a cluster of your own, tests write nothing to its nodes")
    with serving({"model.tar": archive(FILES)}) as server:
        source = {"uri": server.uri("model.tar"), "sha256": server.sha256("model.tar")}
        place.apply(
            model("cached", source=source),
            service("cached", pools=("a100",), replicas=1, scaling={"maxReplicas": 2}),
        )
        (first,) = place.await_ready("cached")
        assert "kept in the node's cache" in fetch_log(place, first)
        downloaded = len(server.asked)
        assert downloaded > 0

        place.kubectl("patch", "modelservice", "cached", "--type=merge", "-p", PATCH)
        second = next(p for p in place.await_ready("cached", 2) if name(p) != name(first))
        assert "from the node's cache" in fetch_log(place, second)
        assert len(server.asked) == downloaded
        assert answer(place) == [2, 3, 4, 5]

    claim = place.there("persistentvolumeclaim", "conch-cache")
    volume = claim["spec"]["volumeName"]
    assert triton_mounts(second)["conch-cache"].get("readOnly") is True
    place.kubectl("delete", "modelservice", "cached")
    place.kubectl("delete", "pods", "--all", "--grace-period=1", "--wait=false")
    wait_for(
        "no claim and no volume",
        lambda: (
            not place.all("persistentvolumeclaims", "-l", "conch.dev/cache=true")
            and not place.stage.tools.get("persistentvolume", volume)
        ),
        timeout=READY_S,
    )


PATCH = '{"spec": {"replicas": 2}}'


def fetch_log(place: Scratch, pod: Object) -> str:
    """Return what a pod's fetch has said."""
    return place.kubectl("logs", name(pod), "-c", "fetch")


def name(pod: Object) -> str:
    """Return a pod's name."""
    return str(pod["metadata"]["name"])


def triton_mounts(pod: Object) -> dict[str, Object]:
    """Return the mounts of a pod's Triton by volume."""
    return {m["name"]: m for m in pod["spec"]["containers"][0]["volumeMounts"]}


def answer(place: Scratch) -> list[float]:
    """Return what the service answers to 1, 2, 3, 4."""
    given = np.array([[1, 2, 3, 4]], dtype=np.float32)
    found = ask_rest(place.address("cached"), "cached", given=("x", given), wanted="sum")
    return [float(x) for x in found[0]]
