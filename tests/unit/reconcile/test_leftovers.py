"""What a deleted service left does not stand in the way of the next of its name."""

from collections import Counter
from typing import Any

import pytest

from conch.api.names import LABEL_MANAGED_BY, LABEL_SERVICE, MANAGED_BY
from conch.clients.clock import SystemClock
from conch.clients.cluster import ClusterError
from conch.provisioning.metadata import LABEL_NAMESPACE
from conch.provisioning.snapshot import Images
from conch.reconcile.execute import Executor
from conch.reconcile.loop import Reconciler
from conch.reconcile.node_cache import NodeCaches
from conch.reconcile.settings import Settings
from conch.reconcile.store import Store
from conch.reconcile.writer import Writer

Object = dict[str, Any]


class Api:
    """Stands for the API server: holds objects by name, and notes what is written."""

    def __init__(self, *bodies: Object) -> None:
        self.objects = {b["metadata"]["name"]: b for b in bodies}
        self.requests: Counter[str] = Counter()
        self.made: list[str] = []
        self.deleted: list[str] = []

    async def get(self, _kind: str, name: str, _namespace: str | None = None) -> Object | None:
        return self.objects.get(name)

    async def create(self, body: Object) -> Object:
        self.made.append(body["metadata"]["name"])
        return {**body, "metadata": {**body["metadata"], "uid": "new", "resourceVersion": "9"}}

    async def delete(self, _kind: str, name: str, *_: Any, **__: Any) -> None:
        self.deleted.append(name)


def claim(owner: str, uid: str = "", **metadata: str) -> Object:
    made: Object = {
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "c",
            "namespace": "n",
            "ownerReferences": [{"uid": owner}],
            **metadata,
        },
    }
    if uid:
        made["metadata"] |= {"uid": uid, "resourceVersion": "1"}
    return made


def written(known: Object, *there: Object) -> tuple[Writer, Api]:
    """Return a writer whose store believes in ``known`` while the API server holds ``there``."""
    api, store = Api(*there), Store()
    store.put(known["kind"], known)
    return Writer(api, store), api  # type: ignore[arg-type]


async def test_a_child_of_the_service_is_left_as_it_is() -> None:
    writer, api = written(claim("service", "a"))
    assert not await writer.ensure_there(claim("service"))
    assert api.made == []


async def test_a_child_of_an_earlier_service_that_is_gone_is_made_anew() -> None:
    writer, api = written(claim("earlier", "a"))
    assert await writer.ensure_there(claim("service"))
    assert api.made == ["c"]


@pytest.mark.parametrize("owner", ["earlier", "service"])
async def test_a_child_on_its_way_out_is_waited_for(owner: str) -> None:
    leaving = claim(owner, "a", deletionTimestamp="2026-01-01T00:00:00Z")
    writer, api = written(leaving, leaving)
    with pytest.raises(ClusterError, match="still being deleted"):
        await writer.ensure_there(claim("service"))
    assert api.made == []


def volume(name: str, service: str, phase: str, manager: str = MANAGED_BY) -> Object:
    return {
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "uid": name,
            "resourceVersion": "1",
            "labels": {
                LABEL_NAMESPACE: "n",
                LABEL_SERVICE: service,
                LABEL_MANAGED_BY: manager,
            },
        },
        "status": {"phase": phase},
    }


async def test_volumes_of_services_that_are_gone_and_released_ones_are_deleted() -> None:
    api, store = Api(), Store()
    store.put(
        "ModelService",
        {"metadata": {"name": "s", "namespace": "n", "uid": "s", "resourceVersion": "1"}},
    )
    for name, service, phase in (
        ("in-use", "s", "Bound"),
        ("fresh", "s", "Available"),
        ("of-an-earlier-one", "s", "Released"),
        ("orphan", "gone", "Bound"),
    ):
        store.put("PersistentVolume", volume(name, service, phase))
    store.put("PersistentVolume", volume("detached", "gone", "Bound", manager="someone"))
    images = Images(triton="t", conch="c")
    loop = Reconciler(api, store, Settings(images), SystemClock())  # type: ignore[arg-type]
    await loop._sweep_volumes()
    assert sorted(api.deleted) == ["of-an-earlier-one", "orphan"]


@pytest.mark.parametrize(
    ("phase", "binds"),
    [(None, False), ("Pending", False), ("Available", True), ("Bound", True), ("Released", False)],
)
def test_a_claim_is_made_once_the_binder_knows_its_volume(phase: str | None, binds: bool) -> None:
    wish, siblings = claim("service"), [volume("v", "s", "as applied")]
    store = Store()
    if phase is not None:
        store.put("PersistentVolume", volume("v", "s", phase))
    api: Any = Api()
    writer = Writer(api, store)
    executor = Executor(writer, store, NodeCaches(api, store, writer, SystemClock(), None))
    assert executor._binds(wish, siblings) is binds
    assert executor._binds({"kind": "ConfigMap"}, siblings)
