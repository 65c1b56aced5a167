"""Which pods take requests, and whose a host is."""

from dataclasses import replace
from typing import Any

import pytest

from conch.api.endpoint import Endpoint
from conch.api.pool import GPUPoolSpec
from conch.decisions.fleet import ServiceKey
from conch.frontdoor.routes import Own, hosts_of, route_of, weight_of
from tests.unit.frontdoor.routes import KEY, pod, route


@pytest.mark.parametrize(
    ("given", "takes", "leaves"),
    [
        ({}, True, False),
        ({"ready": False}, False, False),
        ({"labels": {"conch.dev/serving": None}}, False, True),
        ({"deleted": True}, False, True),
        ({"labels": {"conch.dev/revision": "r2"}}, False, False),
        ({"address": None}, False, False),
    ],
)
def test_who_takes_requests_and_who_leaves(
    given: dict[str, Any], takes: bool, leaves: bool
) -> None:
    [found] = route(pod("a", **given)).replicas
    assert (found.takes, found.leaves) == (takes, leaves)


def test_without_a_service_nobody_takes_any() -> None:
    assert not route(pod("a"), revision=None).replicas[0].takes


def test_the_model_is_that_of_who_answers() -> None:
    old = pod("a", labels={"conch.dev/revision": "r0"}, args=["--load-model=before"])
    assert route(old, pod("b")).model == "digits"
    assert route(old).model == "before"
    assert route().model is None


def test_a_pod_that_was_begun_without_a_name_makes_the_proof_weaker() -> None:
    assert route(pod("a")).proven
    assert not route(pod("a"), pod("b", args=["--load-model=digits"])).proven


def test_a_replica_weighs_what_its_pool_is_worth() -> None:
    spec = {
        "accelerator": "T4",
        "nodeSelector": {"a": "b"},
        "perGPU": {"cpu": "1", "memory": "1Gi"},
    }
    pool = GPUPoolSpec.model_validate({**spec, "relativeSpeed": 0.25})
    assert weight_of(pool) == 16
    assert weight_of(GPUPoolSpec.model_validate({**spec, "relativeSpeed": 99})) == 256
    pods = (pod("a", labels={"conch.dev/pool": "t4"}), pod("b"))
    found = route_of(
        KEY,
        Endpoint(),
        tenant="acme",
        domain=None,
        revision="r1",
        pods=pods,
        weights={"t4": weight_of(pool)},
    )
    assert [r.weight for r in found.replicas] == [16, 64]


OWN = Own(frozenset({"models.example.com"}), "door.conch-system.svc", "models.test")


@pytest.mark.parametrize(
    ("host", "reserved"),
    [
        ("models.example.com", True),
        ("a.models.example.com", False),
        ("door", True),
        ("door.conch-system", True),
        ("door.conch-system.svc.cluster.local", True),
        ("door.conch-system.svcx", False),
        ("models.test", True),
        ("not-there-yet.vision.models.test", True),
        ("othermodels.test", False),
    ],
)
def test_names_of_the_front_door_are_nobodys(host: str, reserved: bool) -> None:
    claimed = replace(route(hosts=[host]), host=None)
    assert hosts_of([claimed], {}, OWN) == ({} if reserved else {host: KEY})
    assert hosts_of([claimed], {}, Own()) == {host: KEY}


def test_a_services_own_name_is_not_to_be_had() -> None:
    mine = route()
    thief = replace(
        route(hosts=["digits.vision.models.test", "fine.example.com"]),
        key=ServiceKey("other", "thief"),
        host="thief.other.models.test",
    )
    later = replace(thief, key=ServiceKey("other", "late"), host=None, hosts=("fine.example.com",))
    created = {mine.key: "2026-03", thief.key: "2026-01", later.key: "2026-02"}
    assert hosts_of([mine, later, thief], created, OWN) == {
        "digits.vision.models.test": KEY,
        "thief.other.models.test": thief.key,
        "fine.example.com": thief.key,
    }
