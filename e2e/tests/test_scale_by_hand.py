import pytest

from e2e.kubectl import wait_for
from e2e.scratch import READY_S, Object, Scratch, adding, python_model, service, uids
from e2e.traffic import more_answers, steady

pytestmark = pytest.mark.cluster

MOST = 5
BOUNDS = {"minReplicas": 1, "maxReplicas": MOST, "drainTimeout": "5s"}


def test_up_over_both_pools_and_down_again_fails_no_request(place: Scratch) -> None:
    place.apply(
        *python_model("add", adding(1)), service("add", pools=("a100", "t4"), scaling=BOUNDS)
    )
    first = place.await_ready("add")
    with steady(place, "add", rate=15) as tally:
        place.kubectl("scale", "msvc", "add", f"--replicas={MOST}")
        pods = place.await_ready("add", MOST)
        assert uids(pods) > uids(first)
        assert {p["metadata"]["labels"]["conch.dev/pool"] for p in pods} == {"a100", "t4"}
        at_rest(place)
        more_answers(tally, 30)

        place.kubectl("scale", "msvc", "add", "--replicas=1")
        left = watch_down_to(place, 1)
        more_answers(tally, 30)
    assert left == uids(first), "the newest are to go"
    at_rest(place)
    status = place.there("msvc", "add")["status"]
    assert (status["replicas"], status["readyReplicas"]) == (1, 1)


def watch_down_to(place: Scratch, count: int) -> set[str]:
    """Watch the way down; return the UIDs of the pods that stay.

    Raises AssertionError where one that had traffic was deleted, or a pod that replaces a victim
    was given a node.
    """
    known, drained = uids(place.pods("add")), set[str]()

    def settled() -> set[str] | None:
        pods = place.all("pods", "-l", "conch.dev/service=add")
        drained.update(*(uids([p]) for p in pods if not serves(p)))
        for pod in pods:
            if uids([pod]) <= known:
                leaving = "deletionTimestamp" in pod["metadata"]
                assert not leaving or uids([pod]) <= drained, f"not drained: {pod['metadata']}"
            else:
                assert "nodeName" not in pod["spec"], f"placed: {pod['metadata']['name']}"
        return uids(pods) if len(pods) == count else None

    found: set[str] = wait_for(f"{count} pods", settled, timeout=READY_S, every=0.2)
    return found


def serves(pod: Object) -> bool:
    """Tell whether a pod has traffic."""
    return bool(pod["metadata"]["labels"].get("conch.dev/serving") == "on")


def at_rest(place: Scratch) -> None:
    """Wait until no template has a gate: lost pods come back by themselves again."""

    def ungated() -> bool:
        sets = place.all("replicasets", "-l", "conch.dev/service=add")
        return bool(sets) and not any(
            s["spec"]["template"]["spec"].get("schedulingGates") for s in sets
        )

    wait_for("templates without a gate", ungated, timeout=READY_S)
