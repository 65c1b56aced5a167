"""Writes, each only when it changes something; answers go back into the store at once."""

import logging
import math
from collections.abc import Callable, Iterable
from typing import Any

from conch.api.names import (
    ANNOTATION_APPLIED,
    ANNOTATION_DRAINING_SINCE,
    FIELD_MANAGER,
    GATE,
    LABEL_MANAGED_BY,
    LABEL_SERVING,
    MANAGED_BY,
    SERVING,
)
from conch.clients.clock import iso
from conch.clients.cluster import (
    CONFLICT,
    MERGE_PATCH,
    STRATEGIC_PATCH,
    Cluster,
    ClusterError,
    Precondition,
)
from conch.decisions.fleet import Pod
from conch.decisions.steps import Admission
from conch.provisioning.pin import admission_patch
from conch.reconcile.diff import covers, digest, stamped
from conch.reconcile.status import status_object
from conch.reconcile.store import Store, created, leaving

logger = logging.getLogger(__name__)
Object = dict[str, Any]

CREATED = frozenset(
    {
        "ControllerRevision",
        "ConfigMap",
        "NetworkPolicy",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "PodDisruptionBudget",
        "ReplicaSet",
        "ResourceClaimTemplate",
        "Service",
        "ServiceAccount",
    }
)
"""Kinds that are made by a plain create, which costs least and takes over nothing that somebody
else made."""
UNUSED_GRACE_S = 5
"""For a pod that never answered: Triton hears SIGTERM only once it has loaded."""


def _uncounted(_kind: str, _verb: str) -> None:
    """Count nothing."""


class Writer:
    """Makes objects say what is wanted. Methods raise ClusterError and NotLeaderError."""

    def __init__(
        self, cluster: Cluster, store: Store, count: Callable[[str, str], None] = _uncounted
    ) -> None:
        """``count`` hears the kind and verb of each write."""
        self._cluster = cluster
        self._store = store
        self._count = count

    async def ensure(self, wish: Object, *, guarded: bool = False) -> bool:
        """Apply a child unless it says so already; tell whether it was written.

        ``guarded`` writes only while the object is as the store knows it (409 otherwise). What
        somebody else made under the same name is not taken over (409): it would go with the
        service.
        """
        live = self._store.twin(wish["kind"], wish)
        if live is None:
            live = await self._make(wish)
        if live is None:
            return True
        _refuse_foreign(live, wish)
        if _says(live, wish):
            return False
        if created(live):
            live = await self._take_up(live, guarded=guarded)
        body = stamped(wish)
        if guarded:
            version = live["metadata"]["resourceVersion"]
            body = {**body, "metadata": {**body["metadata"], "resourceVersion": version}}
        answer = await self._cluster.apply(body, force=_owned_alike(live, wish))
        self._written(answer, "apply")
        return True

    async def _make(self, wish: Object) -> Object | None:
        """Make an object that the store has none of; return the one that is there already, if any."""
        kind, metadata = wish["kind"], wish["metadata"]
        try:
            if kind in CREATED:
                self._written(await self._cluster.create(stamped(wish)), "create")
            else:
                answer = await self._cluster.apply(stamped(wish), force=False)
                self._written(answer, "apply")
        except ClusterError as error:
            if error.status != CONFLICT:
                raise
            live = await self._cluster.get(kind, metadata["name"], metadata.get("namespace"))
            if live is None:
                raise
            _refuse_foreign(live, wish)
            self._store.put(kind, live)
            return live
        return None

    async def _take_up(self, live: Object, *, guarded: bool) -> Object:
        """Make the fields of an object that Conch created fields that it applied; return it so.

        Only then does an apply remove those that it leaves out. As k8s.io/client-go/util/csaupgrade
        does for kubectl.
        """
        kind, metadata = live["kind"], live["metadata"]
        name, namespace = metadata["name"], metadata.get("namespace")
        whole = await self._cluster.get(kind, name, namespace)
        if whole is None:
            # Its deletion was not heard of: of an earlier service of the same name, it may be.
            self._store.drop(kind, live)
            raise ClusterError(f"{kind} {name} is gone", CONFLICT)
        fields = taken_up(whole["metadata"].get("managedFields") or ())
        version = whole["metadata"]["resourceVersion"]
        if guarded and version != live["metadata"]["resourceVersion"]:
            raise ClusterError(f"{kind} {name} has changed meanwhile", CONFLICT)
        body = {"metadata": {"resourceVersion": version, "managedFields": fields}}
        answer = await self._cluster.patch(kind, name, namespace, body, content_type=MERGE_PATCH)
        self._written(answer, "patch")
        return answer

    def _written(self, answer: Object, verb: str) -> None:
        self._store.put(answer["kind"], answer)
        self._count(answer["kind"], verb)
        logger.info("%s: %s %s", verb, answer["kind"], answer["metadata"]["name"])

    async def ensure_there(self, wish: Object) -> bool:
        """Apply a child whose content never changes, unless it exists."""
        known = self._store.twin(wish["kind"], wish)
        if known is not None:
            if _owned_alike(known, wish) and not leaving(known):
                return False
            await self._await_end(wish["kind"], known)
        return await self.ensure(wish)

    async def _await_end(self, kind: str, known: Object) -> None:
        """Forget what an earlier service of the same name left, once it is gone.

        Raises ClusterError (409) while it is on its way out, so that this is tried again.
        """
        metadata = known["metadata"]
        live = await self._cluster.get(kind, metadata["name"], metadata.get("namespace"))
        if live is not None and leaving(live):
            raise ClusterError(f"{kind} {metadata['name']} is still being deleted", CONFLICT)
        if live is None or live["metadata"]["uid"] != metadata["uid"]:
            self._store.drop(kind, known)

    async def make_once(self, body: Object) -> bool:
        """Create an object that is nobody's child; tell whether there was none of its name."""
        try:
            self._written(await self._cluster.create(body), "create")
        except ClusterError as error:
            if error.status != CONFLICT:
                raise
            return False
        return True

    async def status(self, kind: str, body: Object, status: Object) -> bool:
        """Apply the status of an object unless it says so already."""
        live = self._store.twin(kind, body)
        if live is None or (live.get("status") or {}) == status:
            return False
        answer = await self._cluster.apply(
            status_object(body, kind, status), subresource="status", force=True
        )
        self._store.put(kind, answer)
        self._count(kind, "apply-status")
        return True

    async def admit(self, admission: Admission, namespace: str) -> None:
        """Lift the gate of a pod and pin it, in one write."""
        pod, node = dict(admission.pod.body), admission.node
        body = admission_patch(
            pod,
            node,
            migration=admission.migration,
            avoid=admission.avoid,
            disturbed=admission.disturbed,
        )
        await self._patch_pod(admission.pod, namespace, body, content_type=STRATEGIC_PATCH)

    async def drain(self, pod: Pod, namespace: str, now: float) -> None:
        """Take the traffic from a pod, and note since when, in whole seconds and never too early."""
        await self._label(pod, namespace, serving=None, since=iso(math.ceil(now)))

    async def restore(self, pod: Pod, namespace: str) -> None:
        """Give traffic back to a pod that was drained."""
        await self._label(pod, namespace, serving=SERVING, since=None)

    async def _label(
        self, pod: Pod, namespace: str, *, serving: str | None, since: str | None
    ) -> None:
        body = {
            "metadata": {
                "uid": pod.uid,
                "resourceVersion": pod.resource_version,
                "labels": {LABEL_SERVING: serving},
                "annotations": {ANNOTATION_DRAINING_SINCE: since},
            }
        }
        await self._patch_pod(pod, namespace, body, content_type=MERGE_PATCH)

    async def _patch_pod(
        self, pod: Pod, namespace: str, body: Object, *, content_type: str
    ) -> None:
        answer = await self._cluster.patch(
            "Pod", pod.name, namespace, body, content_type=content_type
        )
        self._store.put("Pod", answer)
        self._count("Pod", "patch")

    async def ensure_set(self, wish: Object, *, guarded: bool = False) -> bool:
        """Do as ``ensure`` for a ReplicaSet; where only size or gate differ, patch these alone.

        It costs the API server half of what an apply of the whole pod template does.
        """
        live = self._store.twin("ReplicaSet", wish)
        if live is None or not _owned_alike(live, wish) or _says(live, wish):
            return await self.ensure(wish, guarded=guarded)
        replicas, gated = size_of(live)
        if not _says(live, _sized(wish, replicas, gated=gated)):
            return await self.ensure(wish, guarded=guarded)
        replicas, gated = size_of(wish)
        await self._resize(live, replicas, gated=gated, guarded=guarded, applied=digest(wish))
        return True

    async def patch_set(self, body: Object, *, replicas: int, gated: bool) -> bool:
        """Change the size of a ReplicaSet whose snapshot or pool is gone; tell if it was written."""
        if size_of(body) == (replicas, gated):
            return False
        await self._resize(body, replicas, gated=gated, guarded=True)
        return True

    async def _resize(
        self,
        live: Object,
        replicas: int,
        *,
        gated: bool,
        guarded: bool,
        applied: str | None = None,
    ) -> None:
        metadata = live["metadata"]
        version = {"resourceVersion": metadata["resourceVersion"]} if guarded else {}
        told = {"annotations": {ANNOTATION_APPLIED: applied}} if applied else {}
        gates = [{"name": GATE}] if gated else None
        patch = {
            "metadata": {"uid": metadata["uid"], **version, **told},
            "spec": {"replicas": replicas, "template": {"spec": {"schedulingGates": gates}}},
        }
        answer = await self._cluster.patch(
            "ReplicaSet",
            metadata["name"],
            metadata["namespace"],
            patch,
            content_type=MERGE_PATCH,
        )
        self._written(answer, "patch")

    async def is_gone(self, kind: str, name: str) -> bool:
        """Ask the API server whether a cluster-scoped object is gone; keep it where it is not."""
        live = await self._cluster.get(kind, name)
        if live is not None:
            self._store.put(kind, live)
        return live is None

    async def delete_pod(self, pod: Pod) -> None:
        """Delete a pod; one that never answered has no requests to finish and gets little time."""
        grace = None if pod.ready or pod.draining_since is not None else UNUSED_GRACE_S
        await self.delete("Pod", dict(pod.body), grace_seconds=grace)

    async def delete(self, kind: str, body: Object, *, grace_seconds: int | None = None) -> None:
        """Delete exactly this object, in the state that was decided on."""
        metadata = body["metadata"]
        await self._cluster.delete(
            kind,
            metadata["name"],
            metadata.get("namespace"),
            Precondition(metadata["uid"], metadata["resourceVersion"]),
            grace_seconds=grace_seconds,
        )
        if kind != "Pod":  # a pod stays while it ends, and its last events are watched
            self._store.drop(kind, body)
        self._count(kind, "delete")
        logger.info("deleted %s %s", kind, metadata["name"])


def size_of(body: Object) -> tuple[int, bool]:
    """Return how many replicas a ReplicaSet asks for, and whether its template has the gate."""
    spec = body["spec"]
    return spec.get("replicas", 1), bool(spec["template"]["spec"].get("schedulingGates"))


def _sized(wish: Object, replicas: int, *, gated: bool) -> Object:
    """Return the wish with another size and gate."""
    spec = wish["spec"]
    pod = {k: v for k, v in spec["template"]["spec"].items() if k != "schedulingGates"}
    pod |= {"schedulingGates": [{"name": GATE}]} if gated else {}
    return {
        **wish,
        "spec": {**spec, "replicas": replicas, "template": {**spec["template"], "spec": pod}},
    }


def taken_up(entries: Iterable[Object]) -> list[Object]:
    """Return managedFields in which what Conch wrote otherwise counts as applied."""
    found: list[Object] = []
    applied: Object | None = None
    for entry in entries:
        mine = entry.get("manager") == FIELD_MANAGER and "subresource" not in entry
        if not mine:
            found.append(entry)
        elif applied is None:
            applied = {**entry, "operation": "Apply"}
            found.append(applied)
        else:
            fields = (applied.get("fieldsV1") or {}, entry.get("fieldsV1") or {})
            applied["fieldsV1"] = _union(*fields)
    return found


def _union(one: Object, other: Object) -> Object:
    """Return the fields of both."""
    both = {k: _union(one[k], other[k]) for k in one.keys() & other.keys()}
    return {**one, **other, **both}


def _says(live: Object, wish: Object) -> bool:
    """Tell whether a live object is what was applied last, unchanged, and still what is wanted."""
    applied = (live["metadata"].get("annotations") or {}).get(ANNOTATION_APPLIED)
    return applied == digest(wish) and covers(live, wish)


def _refuse_foreign(live: Object, wish: Object) -> None:
    """Raise ClusterError (409) for an object that is not Conch's."""
    if not _ours(live, wish):
        name = wish["metadata"]["name"]
        raise ClusterError(
            f"{wish['kind']} {name} exists and is not Conch's: rename it, or the service", CONFLICT
        )


def _ours(live: Object, wish: Object) -> bool:
    """Tell whether Conch made a live object, for this owner or for one before it."""
    labels = live["metadata"].get("labels") or {}
    return labels.get(LABEL_MANAGED_BY) == MANAGED_BY or _owned_alike(live, wish)


def _owned_alike(live: Object, wish: Object) -> bool:
    """Tell whether a live object belongs to the same owner as the wish, or both have none."""

    def owners(body: Object) -> list[str]:
        return [o["uid"] for o in body["metadata"].get("ownerReferences") or ()]

    return set(owners(wish)) <= set(owners(live))
