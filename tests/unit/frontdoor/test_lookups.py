"""Keys, grants and limits, as HAProxy looks them up."""

import base64
from typing import Any

import pytest

from conch.api.endpoint import RequestLimits
from conch.frontdoor.lookups import Tenants, digest, keys_of, limit_entries, service_entries
from tests.unit.frontdoor.routes import pod, route

HOME = "conch-system"
TENANTS = Tenants({"vision": "acme"}, {"acme": RequestLimits()})
ONE, TWO = "a-first-key-of-20-letters", "another-key-of-24-letters"


def secret(namespace: str, tenant: str | None, *keys: str, **meta: Any) -> dict[str, Any]:
    """Return a Secret with keys."""
    labels = {} if tenant is None else {"conch.dev/api-keys": tenant}
    data = {str(n): base64.b64encode(k.encode()).decode() for n, k in enumerate(keys)}
    return {
        "metadata": {"namespace": namespace, "name": "keys", "labels": labels, **meta},
        "data": data,
    }


@pytest.mark.parametrize(
    ("namespace", "label", "tenant"),
    [
        (HOME, "acme", "acme"),
        (HOME, "sound", "namespace/sound"),
        (HOME, "vision", None),  # its namespace belongs to acme: who is meant is not clear
        (HOME, "on", f"namespace/{HOME}"),
        ("vision", "on", "acme"),
        ("vision", "somebody-else", "acme"),
        ("sound", "on", "namespace/sound"),
        (HOME, None, None),
    ],
)
def test_whose_a_key_is(namespace: str, label: str | None, tenant: str | None) -> None:
    found = keys_of([secret(namespace, label, ONE)], TENANTS, HOME)
    assert found == ({digest(ONE): tenant} if tenant else {})


def test_what_is_no_key_opens_nothing() -> None:
    short, binary = secret(HOME, "acme", "short"), secret(HOME, "acme")
    binary["data"] = {"a": base64.b64encode(b"\xff" * 20).decode(), "b": "no base64!"}
    leaving = secret(HOME, "acme", ONE, deletionTimestamp="2026-01-01T00:00:00Z")
    assert keys_of([short, binary, leaving], TENANTS, HOME) == {}


def test_a_key_of_two_tenants_is_nobodys() -> None:
    both = [secret(HOME, "acme", ONE, TWO), secret("sound", "on", ONE)]
    assert keys_of(both, TENANTS, HOME) == {digest(TWO): "acme"}


def test_a_line_break_at_the_end_is_no_part_of_a_key() -> None:
    assert keys_of([secret(HOME, "acme", ONE + "\n")], TENANTS, HOME) == {digest(ONE): "acme"}


def test_who_may_ask() -> None:
    found = service_entries(route(pod("a"), tenants=["sound", "vision"], maxBody="1Ki"), TENANTS)
    assert set(found["grants"]) == {"acme|vision/digits", "namespace/sound|vision/digits"}
    assert found["open"] == {}
    assert found["models"] == {"vision/digits": "digits"}
    assert found["bodies"] == {"vision/digits": "1024"}
    assert "*|vision/digits" in service_entries(route(tenants=["*"]), TENANTS)["grants"]
    assert service_entries(route(access="Open"), TENANTS)["open"]


@pytest.mark.parametrize(
    ("limits", "share", "found"),
    [
        ({}, 0.5, {}),
        ({"requestsPerSecond": 100}, 0.5, {"rate": "50"}),
        ({"requestsPerSecond": 4}, 0.5, {"rate10": "20"}),
        ({"requestsPerSecond": 0.01}, 0.5, {"rate10": "1"}),
        ({"concurrentRequests": 5}, 0.5, {"concurrent": "2"}),
        ({"concurrentRequests": 1}, 0.5, {"concurrent": "1"}),
    ],
)
def test_limits_are_divided(limits: dict[str, Any], share: float, found: dict[str, str]) -> None:
    told = limit_entries("x", RequestLimits.model_validate(limits), share)
    assert {name: entries["x"] for name, entries in told.items() if entries} == found
