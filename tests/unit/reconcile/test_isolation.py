"""The policies of isolated services: made, left alone, and gone where services are no longer so."""

import asyncio
import contextlib
from typing import Any

from conch.clients.clock import SystemClock
from conch.clients.cluster import ClusterError
from conch.decisions.steps import Plan
from conch.handlers.process import _first_list, _kinds, _past
from conch.provisioning.network_policy import Isolation
from conch.reconcile.execute import Executor
from conch.reconcile.feed import keep_listing
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.loop import Reconciler
from conch.reconcile.node_cache import NodeCaches
from conch.reconcile.settings import FrontDoor, Settings
from conch.reconcile.store import Store
from conch.reconcile.writer import Writer
from tests.kit.rendering import IMAGES
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import current_revision, gathered, of_revision, store

KIND = "NetworkPolicy"
DOOR = FrontDoor("http://door", "door:8001", isolate=True, metrics_namespaces=("ops",))
OPEN = Settings(IMAGES)
ISOLATED = Settings(IMAGES, lease_namespace="platform", front_door=DOOR)


class Api:
    """Stands for the API server: notes what is made and deleted, and lists what there is."""

    def __init__(self, *policies: Any, forbidden: bool = False) -> None:
        self.requests: Any = {}
        self.made: list[Any] = []
        self.deleted: list[tuple[str, str]] = []
        self.listed: list[tuple[str, str | None]] = []
        self.policies = list(policies)
        self.forbidden = forbidden

    async def create(self, body: Any) -> Any:
        self.made.append(body)
        known = {"uid": f"uid-{body['kind']}", "resourceVersion": "1"}
        return {**body, "metadata": {**body["metadata"], **known}}

    async def delete(self, kind: str, name: str, *_: Any, **__: Any) -> None:
        self.deleted.append((kind, name))
        self.policies.clear()

    async def list(self, kind: str, *, selector: str | None = None, **_: Any) -> list[Any]:
        self.listed.append((kind, selector))
        if kind == KIND and self.forbidden:
            raise ClusterError("networkpolicies is forbidden", 403)
        return self.policies if kind == KIND else []


def policy(**labels: str) -> Any:
    known = {"app.kubernetes.io/managed-by": "conch", "conch.dev/service": "digits"}
    return {"kind": KIND, "metadata": bodies.meta("digits", labels={**known, **labels})}


def served(*policies: Any) -> tuple[Store, ServiceFacts]:
    """Return a service that answers, in a cluster with these policies."""
    revision = current_revision()
    found = store(
        ModelService=bodies.model_service(),
        ReplicaSet=of_revision(bodies.replica_set(replicas=1), revision),
        Pod=of_revision(bodies.pod("p1"), revision),
    )
    for body in policies:
        found.put(KIND, body)
    (facts,) = gathered(found).services
    return found, facts


async def carried_out(api: Api, settings: Settings, *policies: Any) -> list[Any]:
    """Carry out a plan that leaves all as it is; return the policies that were made."""
    found, facts = served(*policies)
    pen: Any = api
    writer = Writer(pen, found)
    executor = Executor(
        writer, found, NodeCaches(pen, found, writer, SystemClock(), None), settings.isolation
    )
    assert await executor._children(facts, Plan(serving_revision=facts.service.revision))
    before = len(api.made), len(api.deleted)
    await executor._children(facts, Plan(serving_revision=facts.service.revision))
    assert (len(api.made), len(api.deleted)) == before, "once is enough"
    return [body for body in api.made if body["kind"] == KIND]


def test_only_a_front_door_that_isolates_does() -> None:
    assert OPEN.isolation is None
    assert Settings(IMAGES, front_door=FrontDoor("http://door", "door:8001")).isolation is None
    assert ISOLATED.isolation == Isolation("platform", ("ops",))


async def test_an_isolated_service_gets_its_policy() -> None:
    (made,) = await carried_out(Api(), ISOLATED)
    assert made["metadata"]["name"] == "digits"
    peers = made["spec"]["ingress"][0]["from"]
    assert peers[0]["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "platform"
    }


async def test_without_isolation_none_is_made_and_that_of_earlier_goes() -> None:
    api = Api()
    assert await carried_out(api, OPEN, policy()) == []
    assert api.deleted == [(KIND, "digits")]


async def test_another_policy_of_that_name_stays() -> None:
    api = Api()
    await carried_out(api, OPEN, policy(**{"conch.dev/service": "other"}))
    assert api.deleted == []


def test_policies_are_listed_only_where_there_are_some() -> None:
    assert KIND in _kinds(ISOLATED)
    assert KIND not in _kinds(OPEN)
    assert (_past(OPEN), _past(ISOLATED)) == ((KIND,), ())


def reconciler(api: Api) -> Reconciler:
    return Reconciler(api, Store(), OPEN, SystemClock())  # type: ignore[arg-type]


async def listed_for(api: Api, loop: Reconciler, seconds: float) -> list[str]:
    """Return the kinds that are listed in so many seconds, a hundred times a second."""
    api.listed.clear()
    cluster: Any = api
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await keep_listing(
                cluster, loop, ("Pod",), every=0.01, sooner=asyncio.Event(), while_known=(KIND,)
            )
    return [kind for kind, _ in api.listed]


async def test_those_of_earlier_are_looked_for_once_and_followed_until_they_are_gone() -> None:
    api: Any = Api(policy())
    loop = reconciler(api)
    await _first_list(api, loop, ("Pod",), (KIND,))
    assert (KIND, "app.kubernetes.io/managed-by=conch") in api.listed
    assert KIND in await listed_for(api, loop, 0.1)
    await api.delete(KIND, "digits")
    await listed_for(api, loop, 0.1)
    there = await listed_for(api, loop, 0.1)
    assert "Pod" in there
    assert KIND not in there


async def test_who_may_not_list_them_has_made_none() -> None:
    api: Any = Api(forbidden=True)
    async with asyncio.timeout(5):
        await _first_list(api, reconciler(api), ("Pod",), (KIND,))
    waits = asyncio.create_task(_first_list(api, reconciler(api), ("Pod", KIND), ()))
    await asyncio.sleep(0.1)
    assert not waits.done(), "who is to make some needs to know them"
    waits.cancel()
