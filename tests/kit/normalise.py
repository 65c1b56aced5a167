"""The lasting state of a namespace without what differs from run to run, so that runs compare.

Left out: UIDs, versions, times, generated names, addresses, measurements, and who wrote which
field. Kept: every wish and every fact, the number of pods, and how they are spread.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from conch.api.names import GROUP, LABEL_MANAGED_BY, MANAGED_BY
from tests.kit.client import Client, Object
from tests.kit.fleet import SHARED, Place

_CONCH = f"/apis/{GROUP}/v1alpha1"
_KINDS = (
    (_CONCH, "modelservices"),
    (_CONCH, "models"),
    ("/api/v1", "serviceaccounts"),
    ("/api/v1", "services"),
    ("/api/v1", "configmaps"),
    ("/api/v1", "persistentvolumeclaims"),
    ("/api/v1", "pods"),
    ("/apis/apps/v1", "replicasets"),
    ("/apis/apps/v1", "controllerrevisions"),
    ("/apis/policy/v1", "poddisruptionbudgets"),
)
_CLUSTER_KINDS = ((_CONCH, "gpupools"), (_CONCH, "clustermodels"))
_OWNED_CLUSTER_KINDS = (("/api/v1", "persistentvolumes"),)
# What Kubernetes puts into every namespace.
_BUILT_IN = {("serviceaccounts", "default"), ("configmaps", "kube-root-ca.crt")}

_DROPPED = {
    *("uid", "resourceVersion", "creationTimestamp", "managedFields", "selfLink", "generateName"),
    *("generation", "observedGeneration", "deletionGracePeriodSeconds"),
    *("clusterIP", "clusterIPs", "podIP", "podIPs", "hostIP", "hostIPs", "containerID"),
    *("lastTransitionTime", "lastProbeTime", "lastUpdateTime", "startTime", "startedAt"),
    # Of models: what was measured of them.
    "profiles",
    # A digest over what was applied, the owner's UID among it.
    f"{GROUP}/applied",
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
# Five random letters as the API server makes them from generateName.
_RANDOM = "[bcdfghjklmnpqrstvwxz2456789]{5}"
_TOKEN_VOLUME = re.compile(f"kube-api-access-{_RANDOM}")


def state(client: Client, namespace: str, place: Place = SHARED) -> dict[str, list[Object]]:
    """Return the normalised objects of a namespace, and Conch's cluster-scoped ones, by kind.

    Of the pools, only those of a place.
    """
    found = {}
    for kind, objects in _read(client, namespace):
        kept = (o for o in objects if (kind, o["metadata"]["name"]) not in _BUILT_IN)
        if kind == "gpupools":
            kept = (o for o in kept if o["metadata"]["name"] in place.pools)
        found[kind] = sorted((normalised(o, namespace, place) for o in kept), key=_text)
    return {kind: objects for kind, objects in found.items() if objects}


def _read(client: Client, namespace: str) -> Iterator[tuple[str, list[Object]]]:
    for prefix, kind in _KINDS:
        yield kind, client.items(f"{prefix}/namespaces/{namespace}/{kind}")
    for prefix, kind in _CLUSTER_KINDS:
        yield kind, client.items(f"{prefix}/{kind}")
    for prefix, kind in _OWNED_CLUSTER_KINDS:
        query = f"?labelSelector={LABEL_MANAGED_BY}={MANAGED_BY}"
        items = client.items(f"{prefix}/{kind}{query}")
        yield kind, [o for o in items if namespace in json.dumps(o)]


def normalised(item: Object, namespace: str, place: Place = SHARED) -> Object:
    """Return an object without what differs from run to run."""
    name, owner = item["metadata"]["name"], item["metadata"].get("generateName")
    # A place's name ends those of its pools and nodes.
    words = {rf"(?<![-a-z0-9]){re.escape(namespace)}(?![-a-z0-9])": "<namespace>"}
    if place.name:
        words[rf"(?<![a-z0-9]){re.escape(place.name)}(?![a-z0-9])"] = "<place>"
    result: Object = _mapped(item, _cleaner(words, name if owner else None, owner))
    result["upToDate"] = _up_to_date(item)
    return result


def _up_to_date(item: Object) -> bool:
    """Tell whether the status speaks of the newest spec; the numbers themselves may differ."""
    generation = item["metadata"].get("generation", 0)
    observed = item.get("status", {}).get("observedGeneration", generation)
    return bool(observed == generation)


def _cleaner(
    words: Mapping[str, str], name: str | None, prefix: str | None
) -> Callable[[str], str]:
    own = [(re.compile(pattern), word) for pattern, word in words.items()]

    def clean(text: str) -> str:
        if name is not None:
            text = text.replace(name, f"{prefix}*")
        text = _TOKEN_VOLUME.sub("kube-api-access-*", _TIME.sub("<time>", text))
        for pattern, word in own:
            text = pattern.sub(word, text)
        return text

    return clean


def _mapped(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {k: _mapped(v, clean) for k, v in sorted(value.items()) if k not in _DROPPED}
    if isinstance(value, list):
        items = [_mapped(v, clean) for v in value]
        # The order of conditions is that of their first appearance, which is chance.
        return sorted(items, key=_text) if _are_conditions(items) else items
    return clean(value) if isinstance(value, str) else value


def _are_conditions(items: list[Any]) -> bool:
    return all(isinstance(i, dict) and {"type", "status"} <= set(i) for i in items)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def difference(expected: dict[str, list[Object]], actual: dict[str, list[Object]]) -> str:
    """Return what differs, as a diff for people; empty where the states are equal."""
    before, after = (yaml.safe_dump(s).splitlines() for s in (expected, actual))
    lines = difflib.unified_diff(before, after, "expected", "actual", n=8, lineterm="")
    return "\n".join(lines)
