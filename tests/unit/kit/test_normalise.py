"""Two runs compare equal, and differences that matter stay."""

import copy
from typing import Any

from tests.kit.normalise import difference, normalised

POD: dict[str, Any] = {
    "metadata": {
        "name": "digits-a100-x7k2p",
        "generateName": "digits-a100-",
        "namespace": "test-1",
        "uid": "6f1c",
        "resourceVersion": "12",
        "generation": 1,
        "creationTimestamp": "2024-01-01T00:00:00Z",
        "labels": {"conch.dev/serving": "on"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "digits-a100", "uid": "77"}],
    },
    "spec": {
        "nodeName": "node-1",
        "volumes": [{"name": "kube-api-access-b2c4d"}],
        "containers": [{"env": [{"name": "HOST", "value": "digits.test-1.svc"}]}],
    },
    "status": {
        "podIP": "10.0.0.1",
        "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2024-01-01T00:00:01Z"},
            {"type": "Initialized", "status": "True", "message": "at 2024-01-01T00:00:02Z"},
        ],
    },
}


def other_run() -> dict[str, Any]:
    pod = copy.deepcopy(POD)
    pod["metadata"] |= {"name": "digits-a100-q9w8z", "namespace": "test-23", "uid": "9a"}
    pod["metadata"] |= {"resourceVersion": "99", "creationTimestamp": "2024-02-02T00:00:00Z"}
    pod["metadata"]["ownerReferences"][0]["uid"] = "88"
    pod["spec"]["volumes"][0]["name"] = "kube-api-access-zzxcv"
    pod["spec"]["containers"][0]["env"][0]["value"] = "digits.test-23.svc"
    pod["status"]["podIP"] = "10.0.0.9"
    pod["status"]["conditions"].reverse()
    pod["status"]["conditions"][0]["message"] = "at 2024-02-02T00:00:02.123Z"
    return pod


def test_runs_that_differ_by_chance_are_equal() -> None:
    assert normalised(POD, "test-1") == normalised(other_run(), "test-23")


def test_what_matters_stays() -> None:
    expected = normalised(POD, "test-1")
    moved, drained, unready = other_run(), other_run(), other_run()
    moved["spec"]["nodeName"] = "node-2"
    del drained["metadata"]["labels"]["conch.dev/serving"]
    unready["status"]["conditions"][1]["status"] = "False"
    for pod in (moved, drained, unready):
        assert normalised(pod, "test-23") != expected


def test_a_status_that_lags_is_told_from_one_that_does_not() -> None:
    def service(generation: int, observed: int) -> dict[str, Any]:
        metadata = {"name": "s", "generation": generation}
        return normalised({"metadata": metadata, "status": {"observedGeneration": observed}}, "n")

    assert service(3, 3) == service(7, 7)
    assert service(3, 3) != service(4, 3)


def test_a_namespace_inside_another_word_is_left() -> None:
    item = {"metadata": {"name": "a"}, "data": {"x": "test-1 test-12 latest-1"}}
    assert normalised(item, "test-1")["data"]["x"] == "<namespace> test-12 latest-1"


def test_differences_read_as_a_diff() -> None:
    one = {"pods": [normalised(POD, "test-1")]}
    assert difference(one, one) == ""
    changed = copy.deepcopy(one)
    changed["pods"][0]["spec"]["nodeName"] = "node-2"
    text = difference(one, changed)
    assert "-    nodeName: node-1" in text
    assert "+    nodeName: node-2" in text
