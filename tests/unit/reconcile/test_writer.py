"""What the writer tells apart before it writes; what it writes is seen at a real API server."""

from typing import Any

from conch.reconcile.writer import size_of, taken_up

Object = dict[str, Any]


def entry(operation: str, fields: Object, manager: str = "conch", **more: str) -> Object:
    return {"manager": manager, "operation": operation, "fieldsV1": fields, **more}


def test_the_size_of_a_replica_set_and_its_gate() -> None:
    pod: Object = {"containers": []}
    bare: Object = {"spec": {"template": {"spec": pod}}}
    assert size_of(bare) == (1, False)
    pod["schedulingGates"] = [{"name": "conch.dev/placement"}]
    assert size_of({"spec": {**bare["spec"], "replicas": 3}}) == (3, True)


def test_what_was_created_and_patched_counts_as_applied_once() -> None:
    created: Object = {"f:spec": {"f:replicas": {}, "f:template": {"f:a": {}}}}
    patched: Object = {"f:metadata": {"f:labels": {}}, "f:spec": {"f:template": {"f:b": {}}}}
    others = entry("Update", {"f:status": {}}, manager="kube-controller-manager")
    status = entry("Apply", {"f:status": {}}, subresource="status")
    found = taken_up([entry("Update", created), others, status, entry("Apply", patched)])
    both = {
        "f:metadata": {"f:labels": {}},
        "f:spec": {"f:replicas": {}, "f:template": {"f:a": {}, "f:b": {}}},
    }
    assert found == [entry("Apply", both), others, status]
