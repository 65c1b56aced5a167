"""``detach``: what runs for a service becomes ordinary objects that outlive it and Conch.

The service is paused first and, where an operator runs, its word is awaited that it leaves the
service alone: it would otherwise put right what is taken off here. Each step may be done again.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from conch.api.conditions import Reason
from conch.api.names import (
    ANNOTATION_APPLIED,
    ANNOTATION_DRAINING_SINCE,
    ANNOTATION_PAUSED,
    FIELD_MANAGER,
    GATE,
    GROUP,
    LABEL_MANAGED_BY,
    LABEL_SERVICE,
    LABEL_SERVING,
    MANAGED_BY,
    SERVING,
)
from conch.cli.plugin_read import FORBIDDEN, leader_of
from conch.cli.plugin_target import PluginError, service_of
from conch.clients.clock import Clock, iso
from conch.clients.cluster import (
    MERGE_PATCH,
    STRATEGIC_PATCH,
    Cluster,
    ClusterError,
    Object,
    Precondition,
)
from conch.clients.resources import CHILDREN, CLAIM_TEMPLATE, NETWORK_POLICY
from conch.provisioning.metadata import LABEL_NAMESPACE, bounded
from conch.reconcile import views

ANNOTATION_DETACHED = f"{GROUP}/detached"
"""On a ModelService: when its children were let go; it can't be resumed."""
DETACHED_MANAGER = "conch-detached"
"""Owns what Conch applied, so that a later service of the same name meets a conflict and doesn't
take the objects over unasked."""
ANSWER_S = 30.0
"""How long an operator that runs may take to say that it leaves a service alone."""
SILENCE_S = 5.0
"""No operator is taken to run where none answers for so long and no lease is kept."""
_OPENED = "deleted: everybody may reach the pods"
_POLL_S = 0.2
_TRIES = 5
_ABSENT = 404
_CONFLICT = 409


@dataclass(frozen=True)
class Change:
    """What was taken off one object; empty where nothing was left to do."""

    kind: str
    name: str
    done: tuple[str, ...]


@dataclass(frozen=True)
class Detaching:
    """One detachment under way; ``say`` tells people what happens."""

    cluster: Cluster
    clock: Clock
    namespace: str
    name: str
    say: Callable[[str], None]
    answer_seconds: float = ANSWER_S

    async def run(self) -> list[Change]:
        """Detach and return what was done to each child. Raises PluginError and ClusterError."""
        service = await service_of(self.cluster, self.namespace, self.name)
        await self._pause(service)
        await self._await_operator()
        changes = [await self._let_go(service, kind) for kind in (*CHILDREN, "Pod")]
        changes.append(await self._claims(service))
        changes.append(await self._volumes())
        changes.append(await self._open())
        await self._annotate({ANNOTATION_DETACHED: iso(self.clock.wall())})
        return [change for some in changes for change in some]

    async def _pause(self, service: Object) -> None:
        annotations = service["metadata"].get("annotations") or {}
        if annotations.get(ANNOTATION_PAUSED) != "true":
            await self._annotate({ANNOTATION_PAUSED: "true"})
            self.say(f"paused: Conch is told to leave {self.namespace}/{self.name} as it is")

    async def _annotate(self, annotations: dict[str, str | None]) -> None:
        await annotate(self.cluster, self.namespace, self.name, annotations)

    async def _await_operator(self) -> None:
        """Return once the operator leaves the service alone, or surely none runs."""
        began = self.clock.monotonic()
        while not await self._answered(self.clock.monotonic() - began):
            if self.clock.monotonic() > began + self.answer_seconds:
                raise PluginError(
                    "the operator has not said within "
                    f"{self.answer_seconds:g} s that it leaves the service alone; nothing was "
                    "detached. The service stays paused: try again, or look at the operator's log"
                )
            await asyncio.sleep(_POLL_S)

    async def _answered(self, waited: float) -> bool:
        service = await service_of(self.cluster, self.namespace, self.name)
        if views.condition(service, "ScalingActive").get("reason") == Reason.PAUSED:
            return True
        if waited < SILENCE_S:
            return False
        notes: list[str] = []
        leader = await leader_of(self.cluster, self.clock.wall(), notes)
        return not notes and (leader is None or not leader.alive)

    async def _let_go(self, service: Object, kind: str) -> list[Change]:
        selector = f"{LABEL_SERVICE}={bounded(self.name)}"
        found = await self.cluster.list(kind, selector=selector, namespace=self.namespace)
        uid = service["metadata"]["uid"]
        return [await self._free(body, uid) for body in found if _ours(body, uid)]

    async def _claims(self, service: Object) -> list[Change]:
        """Let go what pods have their devices from, where the cluster and its rights know of any."""
        try:
            return await self._let_go(service, CLAIM_TEMPLATE)
        except ClusterError as error:
            if error.status not in (FORBIDDEN, _ABSENT):
                raise
            if error.status == FORBIDDEN:
                self.say(
                    f"note: you may not change {CLAIM_TEMPLATE}s; where the service runs in a pool "
                    "of mode DRA, take the owner reference off those with "
                    f"{LABEL_SERVICE}={bounded(self.name)}"
                )
            return []

    async def _open(self) -> list[Change]:
        """Delete the policy that lets the front door in alone, which will not know the service long."""
        selector = f"{LABEL_SERVICE}={bounded(self.name)},{LABEL_MANAGED_BY}={MANAGED_BY}"
        changes = []
        try:
            found = await self.cluster.list(
                NETWORK_POLICY, selector=selector, namespace=self.namespace
            )
            for body in found:
                name, uid = body["metadata"]["name"], body["metadata"]["uid"]
                await self.cluster.delete(NETWORK_POLICY, name, self.namespace, Precondition(uid))
                changes.append(Change(NETWORK_POLICY, name, (_OPENED,)))
        except ClusterError as error:
            if error.status != FORBIDDEN:
                raise
            self.say(
                f"note: you may not delete NetworkPolicies; where there is one with {selector}, only "
                "the front door reaches the pods, and it forgets the service with its ModelService"
            )
        return changes

    async def _volumes(self) -> list[Change]:
        """Let the PersistentVolumes of file:// sources go; the operator deletes orphans of its own."""
        selector = f"{LABEL_SERVICE}={bounded(self.name)},{LABEL_NAMESPACE}={self.namespace}"
        try:
            found = await self.cluster.list("PersistentVolume", selector=selector)
            return [await self._free(body, "") for body in found if _ours(body, "")]
        except ClusterError as error:
            if error.status != FORBIDDEN:
                raise
            self.say(
                "note: you may not change PersistentVolumes; where the model has a file:// source, "
                f"take the label {LABEL_MANAGED_BY} off those with {selector}"
            )
            return []

    async def _free(self, body: Object, uid: str) -> Change:
        """Patch one object, again where it changed meanwhile."""
        kind, name = body["kind"], body["metadata"]["name"]
        namespace = body["metadata"].get("namespace")
        for left in reversed(range(_TRIES)):
            release = _release(body, uid)
            try:
                if release.done:
                    await self.cluster.patch(
                        kind, name, namespace, release.patch, content_type=release.content_type
                    )
                return Change(kind, name, release.done)
            except ClusterError as error:
                if error.status != _CONFLICT or not left:
                    raise
            fresh = await self.cluster.get(kind, name, namespace)
            if fresh is None:
                return Change(kind, name, ())
            body = {**fresh, "kind": kind}
        raise AssertionError("unreachable")


@dataclass(frozen=True)
class Release:
    """The patch that frees an object, and what it does in words."""

    patch: Object
    done: tuple[str, ...]
    content_type: str = MERGE_PATCH


def _ours(body: Object, uid: str) -> bool:
    metadata = body["metadata"]
    labels = metadata.get("labels") or {}
    owners = [o["uid"] for o in metadata.get("ownerReferences") or ()]
    return labels.get(LABEL_MANAGED_BY) == MANAGED_BY or uid in owners


def _release(body: Object, uid: str) -> Release:
    metadata = body["metadata"]
    identity = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    if body["kind"] == "Pod":
        return _pod_release(body, identity)
    kept = [o for o in metadata.get("ownerReferences") or () if o["uid"] != uid]
    owned = len(kept) != len(metadata.get("ownerReferences") or ())
    change: Object = {"metadata": {**identity, **_plain(metadata), "ownerReferences": kept}}
    done = [
        *(["owner reference removed"] if owned else []),
        *(["label managed-by removed"] if _managed(metadata) else []),
    ]
    if body["kind"] == "ReplicaSet":
        done += _ungate(body, change)
    return Release(change, tuple(done))


def _plain(metadata: Object) -> Object:
    """Return the patch of metadata that takes Conch's marks off, and its claim on fields."""
    return {
        "labels": {LABEL_MANAGED_BY: None},
        "annotations": {ANNOTATION_APPLIED: None},
        "managedFields": [_renamed(entry) for entry in metadata.get("managedFields") or ()],
    }


def _renamed(entry: dict[str, Any]) -> dict[str, Any]:
    ours = entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"
    return {**entry, "manager": DETACHED_MANAGER} if ours else entry


def _managed(metadata: Object) -> bool:
    return bool((metadata.get("labels") or {}).get(LABEL_MANAGED_BY) == MANAGED_BY)


def _ungate(body: Object, change: Object) -> Iterator[str]:
    """Add to ``change`` what makes new pods of a ReplicaSet start by themselves."""
    template = body["spec"]["template"]
    gates = template["spec"].get("schedulingGates") or []
    rest = [g for g in gates if g["name"] != GATE]
    change["spec"] = {
        "template": {
            "metadata": {"labels": {LABEL_MANAGED_BY: None}},
            "spec": {"schedulingGates": rest or None} if gates else {},
        }
    }
    if rest != gates:
        yield "scheduling gate removed from its template"


def _pod_release(body: Object, identity: Object) -> Release:
    metadata, spec = body["metadata"], body["spec"]
    done = ["label managed-by removed"] if _managed(metadata) else []
    labels: dict[str, str | None] = {LABEL_MANAGED_BY: None}
    gated = any(g["name"] == GATE for g in spec.get("schedulingGates") or ())
    if gated:
        done.append("scheduling gate lifted")
    if (metadata.get("labels") or {}).get(LABEL_SERVING) != SERVING:
        labels[LABEL_SERVING] = SERVING
        done.append("traffic given back")
    patch: Object = {
        "metadata": {
            **identity,
            "labels": labels,
            "annotations": {ANNOTATION_DRAINING_SINCE: None},
        }
    }
    if gated:
        patch["spec"] = {"schedulingGates": [{"name": GATE, "$patch": "delete"}]}
    return Release(patch, tuple(done), STRATEGIC_PATCH)


async def annotate(
    cluster: Cluster, namespace: str, name: str, annotations: dict[str, str | None]
) -> Object:
    """Set annotations of a ModelService; None removes one."""
    body = {"metadata": {"annotations": annotations}}
    return await cluster.patch("ModelService", name, namespace, body, content_type=MERGE_PATCH)
