"""Endpoints and limits as users write them."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from conch.api.endpoint import Access, Endpoint, RequestLimits
from conch.api.service import ModelServiceSpec, Scaling, Triton
from conch.api.tenant import TenantSpec

GOOD: dict[str, Any] = {
    "hosts": ["digits.example.com", "digits", "a-1.b2.example", "1.example"],
    "access": "Open",
    "tenants": ["vision", "team.a", "*"],
    "timeout": "10ms",
    "maxBody": "2Gi",
    "maxWaiting": 0,
    "maxWait": "0s",
    "replay": True,
    "limits": {"requestsPerSecond": 0.1, "concurrentRequests": 1},
    "slowStart": "0s",
}


def test_an_endpoint_reads_as_written() -> None:
    endpoint = Endpoint.model_validate(GOOD)
    assert endpoint.to_dict() == GOOD
    assert endpoint.access is Access.OPEN


def test_a_service_that_says_nothing_is_open_to_its_own_tenant_alone() -> None:
    endpoint = ModelServiceSpec.model_validate({"model": {"name": "digits"}}).endpoint
    assert endpoint == Endpoint()
    assert endpoint.access is Access.KEYS
    assert endpoint.tenants == endpoint.hosts == []
    assert endpoint.limits == RequestLimits()
    assert not endpoint.replay


@pytest.mark.parametrize(
    "host",
    [
        "",
        "Digits.example.com",
        "https://digits.example.com",
        "digits.example.com:443",
        "digits.example.com/v2",
        "*.example.com",
        "digits..example.com",
        "digits.example.com.",
        "-digits.example.com",
        "10.0.0.1",
        "digits.example.com\n",
        "a" * 64 + ".example.com",
        "a." * 126 + "example",
    ],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match=r"must be a host name|at least 1|at most 253"):
        Endpoint(hosts=[host])


@pytest.mark.parametrize("tenant", ["", "**", "vision*", "Vision", "-vision", "vision\n"])
def test_what_is_no_tenant_is_refused(tenant: str) -> None:
    with pytest.raises(ValidationError, match=r"must be the name of a Tenant|at least 1"):
        Endpoint(tenants=[tenant])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("hosts", ["a.example", "b.example", "a.example"], "a.example: named twice"),
        ("tenants", ["vision", "vision"], "vision: named twice"),
        ("hosts", [f"h{n}.example" for n in range(17)], "at most 16 items"),
        ("tenants", [f"t{n}" for n in range(65)], "at most 64 items"),
        ("access", "Nobody", "'Keys' or 'Open'"),
        ("timeout", "0s", "between 10ms and 24h"),
        ("timeout", "25h", "between 10ms and 24h"),
        ("maxBody", "0", "must be a number of bytes"),
        ("maxWaiting", -1, "greater than or equal to 0"),
        ("maxWait", "2h", "of at most 1h"),
        ("slowStart", "61m", "of at most 1h"),
        ("limits", {"requestsPerSecond": 0}, "greater than 0"),
        ("limits", {"concurrentRequests": 0}, "greater than or equal to 1"),
        ("limits", {"perMinute": 1}, "Extra inputs are not permitted"),
    ],
)
def test_bad_values_are_refused_in_words(field: str, value: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        Endpoint.model_validate({field: value})


def test_a_tenant_limits_requests_over_all_its_services() -> None:
    spec = TenantSpec.model_validate(
        {"namespaces": ["vision"], "requests": {"requestsPerSecond": 50}}
    )
    assert spec.requests == RequestLimits(requests_per_second=50)
    assert TenantSpec(namespaces=["vision"]).requests == RequestLimits()


@pytest.mark.parametrize(
    ("least", "most", "standby"), [(1, 2, 1), (0, 8, 7), (3, None, 2), (0, 1, 0), (0, None, 0)]
)
def test_standby_leaves_one_replica_to_work(least: int, most: int | None, standby: int) -> None:
    scaling = Scaling(min_replicas=least, max_replicas=most, standby=standby)
    assert scaling.standby == standby


@pytest.mark.parametrize(("least", "most", "standby"), [(1, 1, 1), (1, None, 1), (0, 8, 8)])
def test_standby_alone_is_refused(least: int, most: int | None, standby: int) -> None:
    with pytest.raises(ValidationError, match="standby may not reach maxReplicas"):
        Scaling(min_replicas=least, max_replicas=most, standby=standby)


def test_no_response_cache_unless_it_is_asked_for() -> None:
    assert Triton().response_cache is None
    assert Triton.model_validate({"responseCache": "64Mi"}).response_cache == "64Mi"


@pytest.mark.parametrize("size", ["", "0", "1", "512Ki", "0.5Gi", "64MB", "1000000Gi", "64Mi\n"])
def test_a_cache_that_triton_does_not_start_with_is_refused(size: str) -> None:
    with pytest.raises(ValidationError, match="must be a number of bytes, 1M at least"):
        Triton(response_cache=size)
