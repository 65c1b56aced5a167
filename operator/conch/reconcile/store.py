"""The newest known state of every watched object, in plain dictionaries.

Fed by watch events and by the answers to Conch's own writes, and put right by regular lists: a
deletion that a cut watch swallowed would otherwise stay for ever.
"""

import hashlib
import marshal
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from conch.api.names import (
    FIELD_MANAGER,
    FRONT_DOOR,
    LABEL_FRONT_DOOR,
    LABEL_MANAGED_BY,
    LABEL_SERVICE,
    MANAGED_BY,
)

Object = dict[str, Any]

_SHORT = 80
"""Letters up to which equal texts are kept once."""
_SHALLOW, _FEW = 3, 16
"""Levels and entries up to which equal parts are kept once."""
_TREES: dict[bytes, Any] = {}
"""Such parts, by a digest."""
_MOST_TREES = 20_000
"""Of them; then it is begun anew, so that what is gone does not stay for ever."""
_OF_POD = frozenset({"nodeName", "schedulingGates", "affinity", "overhead", "nodeSelector"})
_OF_CONTAINER = frozenset({"name", "resources", "restartPolicy"})
ObjectKey = tuple[str, str]
"""Namespace ("" for cluster-scoped kinds) and name."""


def key_of(body: Object) -> ObjectKey:
    """Return the key of an object."""
    return body["metadata"].get("namespace", ""), body["metadata"]["name"]


def version_of(body: Object) -> int:
    """Return the resourceVersion as a number, which grows with each write of the API server."""
    text = body["metadata"].get("resourceVersion", "0")
    return int(text) if text.isdecimal() else 0


def leaving(body: Object) -> bool:
    """Tell whether an object is on its way out."""
    return "deletionTimestamp" in body["metadata"]


class Store:
    """Objects by kind and key."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[ObjectKey, Object]] = {}
        self._families: dict[ObjectKey, dict[tuple[str, ObjectKey], Object]] = {}
        """By namespace and service label: what is labelled as Conch's, by kind and key."""
        self._stamps: dict[ObjectKey, int] = {}
        """By namespace and service label: a number that any change of what is labelled so renews; none
        where nothing is."""
        self._on_nodes: dict[str, dict[ObjectKey, Object]] = {}
        """By node: the pods that are bound to it, Conch's and others."""
        self._node_stamps: dict[str, int] = {}
        self._doors: dict[ObjectKey, Object] = {}
        """Pods of the front door."""
        self._changes = 0
        self._deleted: dict[str, int] = {}
        """The newest version of objects that are gone, by UID: late answers don't revive them."""

    def put(self, kind: str, body: Object) -> bool:
        """Keep an object unless a newer state of it is known; tell whether anything changed."""
        objects = self._kinds.setdefault(kind, {})
        key = key_of(body)
        known = objects.get(key)
        if body["metadata"].get("uid") in self._deleted:
            return False
        if known is not None and version_of(known) >= version_of(body):
            return False
        objects[key] = _slim(body)
        self._join(kind, key, known, objects[key])
        return True

    def drop(self, kind: str, body: Object) -> bool:
        """Forget an object that is gone; one of the same name but another UID stays."""
        objects = self._kinds.setdefault(kind, {})
        uid = body["metadata"].get("uid")
        known = objects.get(key_of(body))
        if uid:
            self._deleted[uid] = version_of(body)
            self._forget_old()
        if known is None or known["metadata"].get("uid") != uid:
            return False
        del objects[key_of(body)]
        self._join(kind, key_of(body), known, None)
        return True

    def _forget_old(self, most: int = 20000) -> None:
        while len(self._deleted) > most:
            del self._deleted[next(iter(self._deleted))]

    def kept(self, kind: str, body: Object) -> Object:
        """Return an object as it is kept here: the known one where it is of the same version."""
        known, version = self.twin(kind, body), body["metadata"].get("resourceVersion")
        if version and known is not None and known["metadata"].get("resourceVersion") == version:
            return known
        return _slim(body)

    def before_list(self, kind: str) -> dict[ObjectKey, str]:
        """Return keys and UIDs known now; give them to ``after_list`` with the list's items."""
        return {k: o["metadata"]["uid"] for k, o in self._kinds.get(kind, {}).items()}

    def after_list(self, kind: str, before: dict[ObjectKey, str], items: Iterable[Object]) -> bool:
        """Take over a list, and drop what was known before it began and isn't in it.

        Objects that appeared while the list ran are kept. Tells whether anything changed.
        """
        changed = False
        listed = set()
        for body in items:
            listed.add(body["metadata"]["uid"])
            changed |= self.put(kind, body)
        objects = self._kinds.setdefault(kind, {})
        for key, uid in before.items():
            known = objects.get(key)
            if uid not in listed and known is not None and known["metadata"]["uid"] == uid:
                del objects[key]
                self._join(kind, key, known, None)
                changed = True
        return changed

    def stamp(self, key: ObjectKey) -> int:
        """Return a number that changes with each of Conch's objects of a namespace and service label.

        It is 0 where there is none, and never twice the same otherwise.
        """
        return self._stamps.get(key, 0)

    def family(self, kind: str, key: ObjectKey) -> tuple[Object, ...]:
        """Return Conch's objects of a kind, of one namespace and service label, ordered by key."""
        members = self._families.get(key, {})
        return tuple(members[one] for one in sorted(members) if one[0] == kind)

    def bound(self, node: str) -> tuple[Object, ...]:
        """Return the pods that are bound to a node, ordered by key."""
        pods = self._on_nodes.get(node, {})
        return tuple(pods[key] for key in sorted(pods))

    def doors(self) -> tuple[Object, ...]:
        """Return the pods that are labelled as the front door's, ordered by key."""
        return tuple(self._doors[key] for key in sorted(self._doors))

    def node_stamp(self, node: str) -> int:
        """Return a number that changes with each of the pods that are bound to a node; 0: none is."""
        return self._node_stamps.get(node, 0)

    def _join(self, kind: str, key: ObjectKey, old: Object | None, new: Object | None) -> None:
        """Note with its family, and with its node, that an object came, changed or went."""
        if kind == "Pod":
            self._bind(key, old, new)
            self._open(key, new)
        families, one = self._families, (sys.intern(kind), key)
        for body, there in ((old, False), (new, True)):
            family = _family_of(body) if body is not None else None
            if family is None:
                continue
            self._changes += 1
            self._stamps[family] = self._changes
            if there and body is not None:
                families.setdefault(family, {})[one] = body
            elif family in families:
                families[family].pop(one, None)
                if not families[family]:
                    del families[family], self._stamps[family]

    def _bind(self, key: ObjectKey, old: Object | None, new: Object | None) -> None:
        for body in (old, new):
            node = (body.get("spec") or {}).get("nodeName") if body is not None else None
            if not node:
                continue
            self._changes += 1
            self._node_stamps[node] = self._changes
            pods = self._on_nodes.setdefault(node, {})
            if body is new and new is not None:
                pods[key] = new
            else:
                pods.pop(key, None)
            if not pods:
                del self._on_nodes[node], self._node_stamps[node]

    def _open(self, key: ObjectKey, pod: Object | None) -> None:
        labels = (pod["metadata"].get("labels") or {}) if pod is not None else {}
        if pod is not None and labels.get(LABEL_FRONT_DOOR) == FRONT_DOOR:
            self._doors[key] = pod
        else:
            self._doors.pop(key, None)

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """Return one object, or None."""
        return self._kinds.get(kind, {}).get((namespace, name))

    def twin(self, kind: str, body: Object) -> Object | None:
        """Return the object of the same namespace and name as ``body``, or None."""
        return self._kinds.get(kind, {}).get(key_of(body))

    def all(self, kind: str) -> Iterator[Object]:
        """Iterate over the objects of a kind, ordered by key."""
        objects = self._kinds.get(kind, {})
        return (objects[key] for key in sorted(objects))


def _family_of(body: Object) -> ObjectKey | None:
    """Return namespace and service label of an object that is labelled as Conch's."""
    metadata = body["metadata"]
    labels = metadata.get("labels") or {}
    service = labels.get(LABEL_SERVICE)
    if not service or labels.get(LABEL_MANAGED_BY) != MANAGED_BY:
        return None
    return metadata.get("namespace", ""), service


def by_creation(entry: Object) -> bool:
    """Tell whether an entry of managedFields is that of an object's creation by Conch."""
    return (
        entry.get("manager") == FIELD_MANAGER
        and entry.get("operation") == "Update"
        and "subresource" not in entry
    )


def created(body: Object) -> bool:
    """Tell whether a stored object's fields are still Conch's by creation, not by apply."""
    return bool(body["metadata"].get("managedFields"))


def replicas_entry(body: Object) -> Object | None:
    """Return the newest entry of managedFields that is about spec.replicas, if there is one."""
    entries = [
        f
        for f in body["metadata"].get("managedFields") or ()
        if "f:replicas" in ((f.get("fieldsV1") or {}).get("f:spec") or {})
    ]
    return max(entries, key=lambda f: str(f.get("time") or ""), default=None)


def _slim(body: Object) -> Object:
    """Return the object without what Conch never reads and large fleets pay for in memory.

    Of managedFields only the names of entries stay that ``created`` asks for, and of a service the
    one that tells who wrote spec.replicas. Words that come again and again are kept once.
    """
    metadata = {k: v for k, v in body["metadata"].items() if k != "managedFields"}
    ours = [
        {"manager": f["manager"], "operation": f["operation"]}
        for f in body["metadata"].get("managedFields") or ()
        if by_creation(f)
    ]
    if body.get("kind") == "ModelService":
        writer = replicas_entry(body)
        told = {k: v for k, v in (writer or {}).items() if k != "fieldsV1"}
        ours = [told | {"fieldsV1": {"f:spec": {"f:replicas": {}}}}] if writer else []
    slim = {**body, "metadata": {**metadata, **({"managedFields": ours} if ours else {})}}
    if body.get("kind") == "Pod":
        slim["spec"] = _pod_spec(body.get("spec") or {})
    return {sys.intern(k): _parts(v) if k == "metadata" else _shared(v)[0] for k, v in slim.items()}


def _parts(metadata: Object) -> Object:
    """Return metadata, of which no two objects have the same, with its parts kept once."""
    return {sys.intern(k): _shared(v)[0] for k, v in metadata.items()}


def _pod_spec(spec: Object) -> Object:
    """Return what placement reads of a pod: a node holds many pods, most of them nobody's here."""
    containers: Object = {
        part: [{k: v for k, v in c.items() if k in _OF_CONTAINER} for c in spec[part]]
        for part in ("containers", "initContainers")
        if part in spec
    }
    return {**{k: v for k, v in spec.items() if k in _OF_POD}, **containers}


def _shared(tree: Any) -> tuple[Any, int]:
    """Return an object's part with what is equal elsewhere kept once, and how deep it is.

    Keys and short texts are; and so are small parts, such as a container's resources or the labels of
    a ReplicaSet's pods: most of what a fleet's objects say is the same. Nobody writes into them.
    """
    if isinstance(tree, str):
        return (sys.intern(tree) if len(tree) <= _SHORT else tree), 0
    if not isinstance(tree, dict | list):
        return tree, 0
    keys = [sys.intern(k) for k in tree] if isinstance(tree, dict) else None
    parts = [_shared(part) for part in (tree.values() if isinstance(tree, dict) else tree)]
    values = [part for part, _ in parts]
    found: Any = values if keys is None else dict(zip(keys, values, strict=True))
    depth = 1 + max((deep for _, deep in parts), default=0)
    return (_once(found) if depth <= _SHALLOW and len(values) <= _FEW else found), depth


def _once(tree: Any) -> Any:
    """Return an equal tree that is kept already, or this one."""
    key = hashlib.blake2b(marshal.dumps(tree, 2), digest_size=16).digest()
    if len(_TREES) >= _MOST_TREES:
        _TREES.clear()
    return _TREES.setdefault(key, tree)
