"""Requests are read in the API's own words."""

import pytest

from tests.kit.apicalls import Call, read_call


@pytest.mark.parametrize(
    ("method", "path", "call"),
    [
        ("GET", "/api/v1/pods", Call("list", "", "pods")),
        ("GET", "/api/v1/namespaces/a/pods?watch=true", Call("watch", "", "pods", "a")),
        ("GET", "/api/v1/namespaces/a", Call("get", "", "namespaces", "", "a")),
        (
            "PUT",
            "/api/v1/namespaces/a/finalize",
            Call("update", "", "namespaces", "", "a", "finalize"),
        ),
        ("DELETE", "/api/v1/namespaces/a/pods/p", Call("delete", "", "pods", "a", "p")),
        ("DELETE", "/api/v1/namespaces/a/pods", Call("deletecollection", "", "pods", "a")),
        (
            "PATCH",
            "/apis/conch.dev/v1alpha1/namespaces/a/modelservices/m/status?fieldManager=conch",
            Call("patch", "conch.dev", "modelservices", "a", "m", "status"),
        ),
        ("GET", "/apis/conch.dev/v1alpha1", Call("list", "conch.dev")),
        ("GET", "/readyz", Call("list")),
    ],
)
def test_paths(method: str, path: str, call: Call) -> None:
    assert read_call(method, path, {}, b"") == call


def test_an_apply_is_told_from_other_patches() -> None:
    headers = {"Content-Type": "application/apply-patch+yaml"}
    assert read_call("PATCH", "/api/v1/namespaces/a/services/s", headers, b"").verb == "apply"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"metadata": {"name": "n"}}', "n"),
        (b'{"metadata": {"generateName": "n-"}}', "n-"),
        (b"", ""),
        (b"[1]", ""),
    ],
)
def test_a_create_is_named_by_its_body(body: bytes, name: str) -> None:
    assert read_call("POST", "/api/v1/namespaces/a/pods", {}, body).name == name


@pytest.mark.parametrize(
    ("method", "path", "counts"),
    [
        ("POST", "/api/v1/namespaces/a/events", True),
        ("PATCH", "/apis/apps/v1/namespaces/a/replicasets/r", True),
        ("GET", "/api/v1/pods", False),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/l", False),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", False),
        ("POST", "/api/v1/namespaces/a/pods?dryRun=All", False),
    ],
)
def test_what_counts_as_a_write(method: str, path: str, counts: bool) -> None:
    assert read_call(method, path, {}, b"").counts is counts
