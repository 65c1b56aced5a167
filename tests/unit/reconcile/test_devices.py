"""Devices of DRA drivers, counted on nodes from ResourceSlices and ResourceClaims."""

from typing import Any

import pytest

from conch.api.pool import device_key
from conch.clients.cluster import ClusterError
from conch.reconcile.feed import relist
from conch.reconcile.gather import Gatherer
from conch.reconcile.settings import Settings
from conch.reconcile.store import Store
from tests.kit.rendering import IMAGES
from tests.unit.reconcile import bodies

DRIVER = "gpu.example.com"
KEY = device_key(DRIVER)
SHARING = {"mode": "DRA", "deviceClass": DRIVER}


def resource_slice(
    name: str, devices: int, *, node: str | None = "n1", pool: str = "n1", generation: int = 1
) -> Any:
    place = {"nodeName": node} if node else {"allNodes": True}
    spec = {
        "driver": DRIVER,
        "pool": {"name": pool, "generation": generation, "resourceSliceCount": 1},
        "devices": [{"name": f"{name}-{i}"} for i in range(devices)],
        **place,
    }
    return {"metadata": bodies.meta(name, namespace=None), "spec": spec}


def claim(name: str, *devices: str, **result: Any) -> Any:
    results = [{"driver": DRIVER, "pool": "n1", "device": d, **result} for d in devices]
    status = {"allocation": {"devices": {"results": results}}} if devices else {}
    return {"metadata": bodies.meta(name), "spec": {}, "status": status}


def counted(*, dra: bool = True, sharing: Any = None, **objects: Any) -> tuple[int, int]:
    """Return the devices of the node, and those of them that are free."""
    pool = bodies.gpu_pool(sharing=sharing or SHARING)
    found = bodies.store(GPUPool=pool, **objects)
    fleet = Gatherer(found, Settings(images=IMAGES, dra=dra)).gather()
    (node,) = fleet.pools[0].nodes
    return int(node.allocatable.get(KEY, 0)), node.free(KEY).gpus


def test_slices_of_a_node_add_up() -> None:
    slices = [resource_slice("a", 2), resource_slice("b", 3)]
    assert counted(ResourceSlice=slices) == (5, 5)


def test_only_the_newest_generation_of_a_pool_holds() -> None:
    old, new = resource_slice("a", 4, generation=1), resource_slice("b", 3, generation=2)
    assert counted(ResourceSlice=[old, new]) == (3, 3)
    assert counted(ResourceSlice=[new, old]) == (3, 3)


def test_devices_that_are_at_no_one_node_are_not_counted() -> None:
    assert counted(ResourceSlice=resource_slice("a", 4, node=None)) == (0, 0)


def test_another_driver_can_be_named() -> None:
    other = {"mode": "DRA", "deviceClass": "mig.example.com", "driver": DRIVER}
    assert counted(ResourceSlice=resource_slice("a", 2), sharing=other) == (2, 2)


def test_what_claims_hold_is_taken_whoever_made_them() -> None:
    claims = [claim("x", "a-0"), claim("y", "a-1", "a-2"), claim("waiting")]
    assert counted(ResourceSlice=resource_slice("a", 4), ResourceClaim=claims) == (4, 1)


def test_who_only_administers_a_device_takes_nothing() -> None:
    admin = claim("x", "a-0", adminAccess=True)
    assert counted(ResourceSlice=resource_slice("a", 4), ResourceClaim=admin) == (4, 4)


def test_a_pod_counts_before_its_claim_is_heard_of_and_never_twice() -> None:
    pod = bodies.pod(metadata={"annotations": {"conch.dev/devices": f"{KEY}=2"}})
    there = {"ResourceSlice": resource_slice("a", 4), "Pod": pod}
    assert counted(**there) == (4, 2)
    assert counted(**there, ResourceClaim=claim("x", "a-0", "a-1")) == (4, 2)


def test_a_replica_asks_for_devices_of_the_driver() -> None:
    found = bodies.store(
        GPUPool=bodies.gpu_pool(sharing=SHARING),
        ModelService=bodies.model_service(),
        Model=bodies.model(resources={"gpus": 2}),
    )
    (facts,) = Gatherer(found, Settings(images=IMAGES, dra=True)).gather().services
    assert facts.shapes["a100"].need.gpus == 2


def test_without_the_option_the_pool_says_what_is_missing() -> None:
    found = bodies.store(
        GPUPool=bodies.gpu_pool(sharing=SHARING), ModelService=bodies.model_service()
    )
    fleet = Gatherer(found, Settings(images=IMAGES)).gather()
    assert fleet.pools == ()
    assert "dra.enabled" in fleet.pool_faults["a100"].message


class Old:
    """An API server that does not know DRA, and has nothing else."""

    async def list(self, kind: str, **_: Any) -> list[Any]:
        if kind.startswith("Resource"):
            raise ClusterError("the server could not find the requested resource", 404)
        return []


async def test_an_api_server_without_dra_has_no_devices() -> None:
    assert not await relist(Old(), Store(), ("Pod", "ResourceSlice"))  # type: ignore[arg-type]


async def test_one_that_refuses_them_is_not_believed_to_have_none() -> None:
    class Strict(Old):
        async def list(self, kind: str, **_: Any) -> list[Any]:
            raise ClusterError(f"{kind} is forbidden", 403)

    with pytest.raises(ClusterError, match="forbidden"):
        await relist(Strict(), Store(), ("ResourceSlice",))  # type: ignore[arg-type]
