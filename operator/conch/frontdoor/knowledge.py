"""What the agent knows of the cluster, and which services a change is about."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from conch.api.endpoint import Endpoint
from conch.api.names import (
    ANNOTATION_CANARY,
    LABEL_FRONT_DOOR,
    LABEL_REVISION,
    LABEL_SERVICE,
    LABEL_SERVING,
    SERVING,
    TRITON_CONTAINER,
)
from conch.api.pool import GPUPoolSpec
from conch.api.tenant import TenantSpec
from conch.decisions.fleet import ServiceKey
from conch.decisions.shares.tenancy import Claimant, owners
from conch.frontdoor.lookups import Tenants
from conch.frontdoor.routes import Route, canary_of, route_of, weight_of
from conch.provisioning.metadata import bounded
from conch.reconcile.resolve import Fault, parsed

logger = logging.getLogger(__name__)

Object = dict[str, Any]
Label = tuple[str, str]
"""Namespace and the value of the label that names the service."""


class Knowledge:
    """Objects by what they are asked by. Not for several threads."""

    def __init__(self, domain: str | None) -> None:
        """``domain``: that of the installation's hosts."""
        self._domain = domain
        self.services: dict[ServiceKey, Object] = {}
        self.models: dict[tuple[str, str, str], Object] = {}
        """By kind, namespace (empty for ClusterModels) and name."""
        self.tenants = Tenants({}, {})
        self._keys: dict[Label, ServiceKey] = {}
        self._pods: dict[Label, dict[str, Object]] = {}
        self._selected: dict[Label, str] = {}
        self._canaries: dict[Label, str] = {}
        """What Services say of theirs."""
        self._told_of: dict[Label, str] = {}
        """Canaries that are none, and were told of."""
        self._tenants: dict[str, Object] = {}
        self._weights: dict[str, int] = {}
        """Of replicas, by their pool's label."""
        self._endpoints: dict[ServiceKey, Endpoint] = {}
        """The last that could be read."""
        self.secrets: dict[tuple[str, str], Object] = {}
        self.peers: dict[str, Object] = {}
        """Pods of the front door, by name."""
        self.certificate: Object | None = None
        self.dirty: set[ServiceKey] = set()
        """Services whose routes may have changed."""
        self.access = True
        """Whether keys, tenants or peers have changed."""

    def changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        """Take over a change of an object."""
        body = new or old
        if body is not None:
            getattr(self, f"_{kind.lower()}")(body, gone=new is None)

    def _modelservice(self, body: Object, *, gone: bool) -> None:
        meta = body["metadata"]
        key = ServiceKey(meta["namespace"], meta["name"])
        label = (key.namespace, bounded(key.name))
        if gone:
            for memory in (self.services, self._endpoints):
                memory.pop(key, None)
            self._keys.pop(label, None)
        else:
            self.services[key] = body
            self._keys[label] = key
            found = parsed(Endpoint, (body.get("spec") or {}).get("endpoint"))
            if not isinstance(found, Fault):
                self._endpoints[key] = found
        self.dirty.add(key)

    def _model(self, body: Object, *, gone: bool) -> None:
        meta = body["metadata"]
        name = (body["kind"], meta.get("namespace", ""), meta["name"])
        if gone:
            self.models.pop(name, None)
        else:
            self.models[name] = body

    _clustermodel = _model

    def _pod(self, body: Object, *, gone: bool) -> None:
        meta = body["metadata"]
        labels = meta.get("labels") or {}
        if LABEL_FRONT_DOOR in labels:
            self._peer(body, gone=gone)
            return
        label = (meta["namespace"], labels.get(LABEL_SERVICE, ""))
        pods = self._pods.setdefault(label, {})
        if gone:
            pods.pop(meta["uid"], None)
            if not pods:
                del self._pods[label]
        else:
            pods[meta["uid"]] = body
        self._touch(label)

    def _peer(self, body: Object, *, gone: bool) -> None:
        name = body["metadata"]["name"]
        if gone:
            self.peers.pop(name, None)
        else:
            self.peers[name] = body
        self.access = True

    def _service(self, body: Object, *, gone: bool) -> None:
        selector = (body.get("spec") or {}).get("selector") or {}
        label = (body["metadata"]["namespace"], selector.get(LABEL_SERVICE, ""))
        if gone:
            self._selected.pop(label, None)
        elif LABEL_REVISION in selector:
            self._selected[label] = selector[LABEL_REVISION]
        canary = (body["metadata"].get("annotations") or {}).get(ANNOTATION_CANARY)
        if gone or canary is None:
            self._canaries.pop(label, None)
        elif LABEL_SERVICE in selector:
            self._canaries[label] = str(canary)
        self._touch(label)

    def _tenant(self, body: Object, *, gone: bool) -> None:
        name = body["metadata"]["name"]
        if gone:
            self._tenants.pop(name, None)
        else:
            self._tenants[name] = body
        self.tenants = _tenants_of(self._tenants)
        self.access = True
        self.dirty |= self.services.keys()

    def _gpupool(self, body: Object, *, gone: bool) -> None:
        label = bounded(body["metadata"]["name"])
        spec = parsed(GPUPoolSpec, body.get("spec"))
        old = self._weights.get(label)
        if gone:
            self._weights.pop(label, None)
        elif not isinstance(spec, Fault):
            self._weights[label] = weight_of(spec)
        if self._weights.get(label) != old:
            self.dirty |= self.services.keys()

    def _secret(self, body: Object, *, gone: bool) -> None:
        meta = body["metadata"]
        name = (meta["namespace"], meta["name"])
        if gone:
            self.secrets.pop(name, None)
        else:
            self.secrets[name] = body
        self.access = True

    def certified(self, _kind: str, _old: Object | None, new: Object | None) -> None:
        """Take over a change of the Secret with the certificate."""
        self.certificate = new
        self.access = True

    def _touch(self, label: Label) -> None:
        if label in self._keys:
            self.dirty.add(self._keys[label])

    def route(self, key: ServiceKey) -> Route | None:
        """Return the route of a service, None where there is none of that name.

        One whose endpoint can't be read goes on as it was.
        """
        if key not in self.services or key not in self._endpoints:
            return None
        label = (key.namespace, bounded(key.name))
        canary = self._canaries.get(label)
        route = route_of(
            key,
            self._endpoints[key],
            tenant=self.tenants.of(key.namespace),
            domain=self._domain,
            revision=self._selected.get(label),
            pods=self._pods.get(label, {}).values(),
            weights=self._weights,
            canary=None if canary is None else canary_of(canary),
        )
        self._tell_of(label, canary, route)
        return route

    def _tell_of(self, label: Label, canary: str | None, route: Route) -> None:
        """Log once that a canary is none: it is malformed, or has no pod."""
        if canary is None or route.canary is not None:
            self._told_of.pop(label, None)
            return
        read = canary_of(canary)
        if read is not None and read[0] == self._selected.get(label):
            return  # it has all of the traffic
        if self._told_of.get(label) != canary:
            self._told_of[label] = canary
            why = "is no REVISION=PERCENT" if read is None else "names a revision without a pod"
            logger.warning("%s: the canary %r %s; it gets no requests", route.key, canary, why)

    def created(self) -> Mapping[ServiceKey, str]:
        """Return when each service was made (ISO 8601)."""
        return {k: b["metadata"].get("creationTimestamp", "") for k, b in self.services.items()}

    def leaving(self) -> Iterator[str]:
        """Yield the UIDs of pods that get no new requests because they are to go."""
        for pods in self._pods.values():
            for uid, pod in pods.items():
                meta = pod["metadata"]
                serving = (meta.get("labels") or {}).get(LABEL_SERVING) == SERVING
                if not serving or "deletionTimestamp" in meta:
                    yield uid

    def share(self) -> float:
        """Return the part of each limit that one replica of the front door may give out."""
        ready = sum(_is_ready(p) for p in self.peers.values())
        return 1.0 / max(1, ready)


def _tenants_of(bodies: Mapping[str, Object]) -> Tenants:
    read = {n: parsed(TenantSpec, b.get("spec")) for n, b in bodies.items()}
    specs = {n: s for n, s in read.items() if not isinstance(s, Fault)}
    made = {n: b["metadata"].get("creationTimestamp", "") for n, b in bodies.items()}
    whose = owners(Claimant(n, made[n], tuple(s.namespaces)) for n, s in specs.items())
    return Tenants(whose, {n: s.requests for n, s in specs.items()})


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def kept(body: Object) -> Object:
    """Return what the agent keeps of an object: a fleet's pods are large, and little of them counts."""
    meta = {k: v for k, v in body["metadata"].items() if k not in ("managedFields", "annotations")}
    if body["kind"] == "Service":
        said = body["metadata"].get("annotations") or {}
        meta["annotations"] = {k: v for k, v in said.items() if k == ANNOTATION_CANARY}
    if body["kind"] != "Pod":
        return {**body, "metadata": meta}
    status = body.get("status") or {}
    containers = (body.get("spec") or {}).get("containers") or ()
    triton = [c for c in containers if c.get("name") == TRITON_CONTAINER]
    wanted = ("name", "namespace", "uid", "labels", "deletionTimestamp")
    return {
        "kind": "Pod",
        "metadata": {k: v for k, v in meta.items() if k in wanted},
        "spec": {"containers": [{"name": c["name"], "args": c.get("args")} for c in triton]},
        "status": {
            "podIP": status.get("podIP"),
            "conditions": [
                {"type": "Ready", "status": c.get("status")}
                for c in status.get("conditions") or ()
                if c.get("type") == "Ready"
            ],
        },
    }
