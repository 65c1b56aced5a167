"""What a page knows of a service."""

from typing import Any

import pytest

from conch.frontdoor.page import Addresses, page_of
from tests.unit.frontdoor.callers import ADDRESSES, model, page, service

OUTSIDE = Addresses("https://models.example:8443/", "models.example:8443")


def test_facts_are_those_of_service_and_model() -> None:
    found = page_of(service(variant="int8", revision="abc"), model(), ADDRESSES)
    assert found.title == "vision/answers"
    assert found.model == "digits"
    assert found.url == "http://conch-front-door.conch-system.svc/vision/answers"
    assert found.grpc == "conch-front-door.conch-system.svc:8001"
    assert found.task == "image-classification"
    assert [t.name for t in (*found.inputs, *found.outputs)] == ["image", "probabilities"]
    assert [v.name for v in found.variants if v.serves] == ["int8"]
    assert found.variants[0].accuracy == "top1 0.9956 on digits-test"
    assert found.described
    assert found.note is None


@pytest.mark.parametrize(
    ("status", "wish", "batch"),
    [
        ({"variant": "int8"}, None, 32),
        ({"variant": "fp32"}, "int8", 8),
        ({}, "int8", 32),
        ({}, None, 8),
        ({"variant": "gone"}, None, 8),
    ],
)
def test_the_batch_is_that_of_the_variant_that_serves(
    status: dict[str, Any], wish: str | None, batch: int
) -> None:
    body = service(**status)
    if wish:
        body["spec"]["model"]["variant"] = wish
    assert page_of(body, model(), ADDRESSES).max_batch_size == batch


def test_shapes_are_as_they_are_sent() -> None:
    free = {"name": "x", "datatype": "FP32", "shape": [3, -1]}
    batched, single = page([free]), page([free], batch=0)
    assert batched.shape(batched.inputs[0]) == (-1, 3, -1)
    assert single.shape(single.inputs[0]) == (3, -1)


def test_defaults_of_the_endpoint() -> None:
    found = page()
    assert found.keys
    assert found.bounds.body_bytes == "64Mi"
    assert (found.bounds.silence, found.bounds.wait, found.bounds.patience) == (60, 120, 180)
    assert found.bounds.requests_per_second is None


def test_the_endpoints_own_bounds() -> None:
    limits = {"requestsPerSecond": 2.5, "concurrentRequests": 4}
    found = page(access="Open", timeout="5s", maxWait="1m", hosts=["a.example"], limits=limits)
    assert not found.keys
    assert found.bounds.patience == 65
    assert (found.bounds.requests_per_second, found.bounds.concurrent_requests) == (2.5, 4)
    assert found.hosts == ("a.example",)


def test_a_service_without_endpoint_or_status() -> None:
    body = service()
    del body["spec"]["endpoint"], body["status"]
    found = page_of(body, model(), ADDRESSES)
    assert found.keys
    assert found.revision is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (None, "There is no Model digits"),
        ({"spec": {"variants": "?"}}, "can't be read"),
        ({}, "can't be read"),
        (model(inputs=()), "does not say"),
        (model(outputs=()), "does not say"),
    ],
)
def test_what_is_missing_is_said(body: dict[str, object] | None, told: str) -> None:
    found = page_of(service(), body, ADDRESSES)
    assert not found.described
    assert told in (found.note or "")


def test_a_cluster_model_is_called_so() -> None:
    body = service()
    body["spec"]["model"]["kind"] = "ClusterModel"
    assert "no ClusterModel digits" in (page_of(body, None, ADDRESSES).note or "")


def test_an_endpoint_of_a_later_version_takes_nothing_away() -> None:
    found = page(later="?")
    assert found.keys
    assert found.described


def test_addresses_from_outside_and_by_host() -> None:
    found = page(addresses=OUTSIDE)
    assert found.url == "https://models.example:8443/vision/answers"
    assert found.secure
    own = Addresses("http://answers.vision.example/", "answers.vision.example:80", own_host=True)
    assert page(addresses=own).url == "http://answers.vision.example"


@pytest.mark.parametrize(
    ("host", "protocol", "url", "grpc"),
    [
        ("door", None, "http://door", "door:80"),
        ("door:8080", None, "http://door:8080", "door:8080"),
        ("models.example", "https", "https://models.example", "models.example:443"),
        ("models.example:8443", "HTTPS ", "https://models.example:8443", "models.example:8443"),
        ("[fd00::1]", None, "http://[fd00::1]", "[fd00::1]:80"),
        ("[fd00::1]:81", "http", "http://[fd00::1]:81", "[fd00::1]:81"),
        ("door", "javascript", "http://door", "door:80"),
    ],
)
def test_addresses_are_those_that_the_caller_used(
    host: str, protocol: str | None, url: str, grpc: str
) -> None:
    assert Addresses.reached(host, protocol) == Addresses(url, grpc)
    assert Addresses.reached(host, protocol, own_host=True).own_host
