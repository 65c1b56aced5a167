"""Many histories at once on one API server: what A, then B, then C leaves, beside a fresh C.

What may differ:

- the number of a revision, times, generations, generated names;
- where replicas are: what runs stays where it is while it may; so pools are compared only where A,
  B and C wish for the same;
- how many replicas there are where no number is asked for: without metrics nothing is scaled down;
- everything, where C can't work: what served goes on, and the conditions say the same of C.
"""

import copy
import difflib
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import yaml

from conch.api.names import GATE, LABEL_POOL, LABEL_REVISION, LABEL_SERVICE, LABEL_SERVING
from conch.api.rollout import RolloutSpec
from tests.kit.client import Client, Object
from tests.kit.control_plane import condition
from tests.kit.fleet import gpu_pool, node
from tests.kit.histories import History, Spec, Wish, described
from tests.kit.normalise import normalised
from tests.kit.scenario import CONCH, in_use
from tests.kit.sweep import Lane

POOLS = {"a100": "NVIDIA-A100", "t4": "Tesla-T4", "l4": "NVIDIA-L4"}
EDITED_POOL = "l4"
QUIET_S, CALM_S, LIMIT_S = 2.0, 25.0, 400.0
"""The last bounds what never ends well; a machine that others keep busy may take most of it."""
_KINDS = {
    "modelservices": CONCH,
    "services": "/api/v1",
    "configmaps": "/api/v1",
    "serviceaccounts": "/api/v1",
    "pods": "/api/v1",
    "replicasets": "/apis/apps/v1",
    "controllerrevisions": "/apis/apps/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
}
Objects = dict[str, list[Object]]
"""What belongs to one service, by kind."""


def furnish(client: Client) -> None:
    """Make a pool a kind of accelerator, each with a node that is never full."""
    for pool, accelerator in POOLS.items():
        client.create("/api/v1/nodes", node(f"node-{pool}", accelerator, gpus=9000, pods=9000))
        client.create(f"{CONCH}/gpupools", gpu_pool(pool, accelerator))


@dataclass(frozen=True)
class Difference:
    """A history that did not end like a fresh C, or not at all."""

    history: History
    text: str

    def __str__(self) -> str:
        text = yaml.dump(described(self.history), Dumper=_NoAnchors, sort_keys=False)
        rushed = " (B at once after A)" if self.history.rushed else ""
        return f"{self.text}\nof this history{rushed}:\n{text}"


class _NoAnchors(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


@dataclass
class Batch:
    """Histories that are lived side by side in a namespace of their own."""

    lane: Lane
    histories: Sequence[History]
    pools: Sequence[Spec]
    """What the edited pool says while A, B and C are applied."""
    limit: float = LIMIT_S
    """How many seconds all may take to become equal."""
    namespace: str = field(init=False)
    moments: list[float] = field(default_factory=list)
    """When it began, when each of A, B and C was applied and at rest."""
    working: int = 0
    """Histories whose C can work."""

    def __post_init__(self) -> None:
        self.namespace = self.lane.cluster.new_namespace()
        self._client = self.lane.cluster.client

    def live(self) -> list[Difference]:
        """Apply A, B and C, and a fresh C beside; return what differs once all is quiet."""
        everyone = range(len(self.histories))
        self._mark()
        calm = [i for i in everyone if not self.histories[i].rushed]
        self._edit_pool(self.pools[0])
        self._each(everyone, lambda i: self._apply(i, "h", self.histories[i].first))
        self._each(set(everyone) - set(calm), lambda i: self._apply(i, "h", self.histories[i].then))
        self._await_quiet(CALM_S)
        self._mark()
        served = self._served()
        self._edit_pool(self.pools[1])
        self._each(calm, lambda i: self._apply(i, "h", self.histories[i].then))
        self._await_quiet(CALM_S)
        self._mark()
        served &= self._served()
        self._edit_pool(self.pools[2])
        self._each(everyone, lambda i: self._apply(i, "h", self.histories[i].last))
        self._each(everyone, lambda i: self._apply(i, "f", self.histories[i].last))
        found = self._compared(served)
        self._mark()
        return found

    @property
    def figures(self) -> str:
        """What was lived, in one line."""
        reverts = sum(h.reverts for h in self.histories)
        steps = ", ".join(f"{b - a:.0f}" for a, b in itertools.pairwise(self.moments))
        return (
            f"{len(self.histories)} histories, {reverts} revert, C can work in {self.working}, "
            f"{len(self.lane.proxy.writes)} writes, {steps} s"
        )

    def _mark(self) -> None:
        self.moments.append(time.monotonic())

    def remove(self) -> None:
        """Delete all services; return once their pods are gone."""
        for kind in ("modelservices", "models"):
            path = f"{CONCH}/namespaces/{self.namespace}/{kind}"
            self._client.delete(path)
        self._until(lambda: not self._items("pods"), "no pods", LIMIT_S)

    def writes_at_rest(self, seconds: float, attempts: int = 3) -> list[str]:
        """Return what is written, with success, in so many seconds, of the last of some attempts.

        What Kubernetes says late of a pod may be passed on once; what never ends is in each of them.
        """
        found: list[str] = []
        for _ in range(attempts):
            before = len(self.lane.proxy.writes)
            time.sleep(seconds)
            found = [str(w) for w in self.lane.proxy.writes[before:] if (w.status or 500) < 400]
            if not found:
                break
        return found

    def _compared(self, served: set[int]) -> list[Difference]:
        """Wait until all are equal and nothing is written; what is not equal by then differs."""
        deadline = time.monotonic() + self.limit
        while True:
            self._await_quiet(max(0.0, deadline - time.monotonic()))
            objects = self._by_service()
            names = [f"f{i:03}" for i in range(len(self.histories))]
            self.working = sum(_works(objects[name]) for name in names)
            found = [
                Difference(history, text)
                for i, history in enumerate(self.histories)
                if (text := self._difference(i, objects, lost=i in served))
            ]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(1)

    def _difference(self, index: int, objects: dict[str, Objects], *, lost: bool) -> str:
        history = self.histories[index]
        old = _clean(objects[f"h{index:03}"], self.namespace, f"h{index:03}")
        new = _clean(objects[f"f{index:03}"], self.namespace, f"f{index:03}")
        return "\n".join(compare(history, old, new, served=lost))

    def _served(self) -> set[int]:
        """The histories that answer now."""
        ready = set()
        for service in self._items("modelservices"):
            if condition(service, "Ready").get("status") == "True":
                ready.add(int(service["metadata"]["name"][1:]))
        return ready

    def _edit_pool(self, spec: Spec) -> None:
        made = gpu_pool(EDITED_POOL, POOLS[EDITED_POOL])
        made["spec"] |= spec
        self._client.apply(f"{CONCH}/gpupools/{EDITED_POOL}", made)

    def _apply(self, index: int, letter: str, wish: Wish) -> None:
        """Do as a user does who edits both manifests."""
        prefix = f"{CONCH}/namespaces/{self.namespace}"
        name, model = f"{letter}{index:03}", f"m{index:03}"
        head = {"apiVersion": "conch.dev/v1alpha1"}
        if wish.model is None:
            self._client.delete(f"{prefix}/models/{model}")
        else:
            made = {**head, "kind": "Model", "metadata": {"name": model}, "spec": wish.model}
            self._client.apply(f"{prefix}/models/{model}", made)
        spec = copy.deepcopy(wish.service)
        spec["model"] = {**spec.get("model", {}), "name": model}
        scaling = {"drainTimeout": "200ms", "maxReplicas": 3, **spec.get("scaling", {})}
        spec["scaling"] = scaling | {"maxReplicas": max(scaling["maxReplicas"], 1)}
        made = {**head, "kind": "ModelService", "metadata": {"name": name}, "spec": spec}
        self._client.apply(f"{prefix}/modelservices/{name}", made)

    def _each(self, which: Sequence[int] | set[int], do: Callable[[int], None]) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(do, sorted(which)))

    def _items(self, kind: str) -> list[Object]:
        return self._client.items(f"{_KINDS[kind]}/namespaces/{self.namespace}/{kind}")

    def _by_service(self) -> dict[str, Objects]:
        names = [f"{letter}{i:03}" for letter in "hf" for i in range(len(self.histories))]
        found: dict[str, Objects] = {name: {kind: [] for kind in _KINDS} for name in names}
        for kind in _KINDS:
            for item in self._items(kind):
                metadata = item["metadata"]
                own = metadata["name"] if kind == "modelservices" else None
                name = own or metadata.get("labels", {}).get(LABEL_SERVICE)
                if name in found:
                    found[name][kind].append(item)
        return found

    def _await_quiet(self, limit: float) -> None:
        """Return once nothing was written with success for a while, or after so many seconds."""
        deadline = time.monotonic() + limit
        count, since = -1, time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - since < QUIET_S:
            self.lane.operator.revive()  # on a busy machine it may lose its lease
            writes = sum((w.status or 500) < 400 for w in list(self.lane.proxy.writes))
            if writes != count:
                count, since = writes, time.monotonic()
            time.sleep(0.2)

    def _until(self, condition: Callable[[], bool], what: str, limit: float) -> None:
        deadline = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < deadline, f"never reached: {what}"
            time.sleep(0.2)


def _clean(objects: Objects, namespace: str, name: str) -> Objects:
    """Return the objects without what differs from run to run, and with one name for the service."""
    word = re.compile(rf"\b{name}\b")
    cleaned = {k: [normalised(o, namespace) for o in found] for k, found in objects.items()}
    result: Objects = json.loads(word.sub("<service>", json.dumps(cleaned)))
    return result


def compare(history: History, old: Objects, new: Objects, *, served: bool) -> Iterator[str]:
    """Yield what a history left that a fresh C would not be like, as sentences."""
    for which, objects in (("the history", old), ("a fresh C", new)):
        (service,) = objects["modelservices"]
        if not service.get("status", {}).get("conditions") or not service["upToDate"]:
            yield f"nothing is said of {which}"
    if not _works(new):
        yield from _unlike("what stands in C's way", _faults(old), _faults(new))
        if served and history.last.service.get("replicas") != 0 and not _serving(old):
            yield "C can't work, and what served before does no longer"
        return
    pools, count = _same_place(history), "replicas" in history.last.service
    for what, part in _PARTS.items():
        yield from _unlike(
            what, part(old, pools=pools, count=count), part(new, pools=pools, count=count)
        )


def _works(objects: Objects) -> bool:
    """Tell whether nothing stands in the way of what is asked for."""
    (service,) = objects["modelservices"]
    stalled = condition(service, "Stalled").get("status")
    admitted = condition(service, "Admitted").get("status")
    return stalled == "False" and admitted == "True"


def _serving(objects: Objects) -> list[Object]:
    return [p for p in objects["pods"] if in_use(p) and "deletionTimestamp" not in p["metadata"]]


def _faults(objects: Objects) -> Object:
    (service,) = objects["modelservices"]
    found = {kind: condition(service, kind) for kind in ("Stalled", "Loaded")}
    return {
        "upToDate": service["upToDate"],
        **{k: (c.get("status"), c.get("reason")) for k, c in found.items()},
    }


def _same_place(history: History) -> bool:
    """Tell whether replicas had no reason to be elsewhere than where fresh ones go."""
    wishes = [w.service.get("placement", {}) for w in (history.first, history.then, history.last)]
    asked = wishes[0].get("pools") or []
    # The edited pool may have been preferred for its speed or price before.
    return wishes[0] == wishes[1] == wishes[2] and len(asked) == 1


def _status(objects: Objects, *, pools: bool, count: bool) -> Object:
    (service,) = objects["modelservices"]
    status = copy.deepcopy(service.get("status", {}))
    # A fresh one replaces no other revision.
    status.pop("rollout", None)
    for key in ("pools", "where") if not (pools and count) else ():
        status.pop(key, None)
    for key in ("replicas", "readyReplicas", "desiredReplicas") if not count else ():
        status.pop(key, None)
    conditions = status.get("conditions", [])
    status["conditions"] = {
        c["type"]: (c["status"], c["reason"], c["message"] if count else "") for c in conditions
    }
    return {"upToDate": service["upToDate"], **status}


def _replica_sets(objects: Objects, *, pools: bool, count: bool) -> Object:
    """Those that have replicas; by pool only where the pools are comparable."""
    serving = [s for s in objects["replicasets"] if s["spec"]["replicas"]]
    if pools:
        fields = {s["metadata"]["name"]: copy.deepcopy(s["spec"]) for s in serving}
        for spec in fields.values():
            if not count:
                spec.pop("replicas")
        return fields
    revisions = sorted({s["metadata"]["labels"][LABEL_REVISION] for s in serving})
    total = sum(s["spec"]["replicas"] for s in serving)
    gates = [s["spec"]["template"]["spec"].get("schedulingGates") for s in serving]
    return {"revisions": revisions, "gated": any(gates), **({"replicas": total} if count else {})}


def _pods(objects: Objects, *, pools: bool, count: bool) -> list[Any]:
    keys = [LABEL_REVISION, LABEL_SERVING, *([LABEL_POOL] if pools else [])]
    found = []
    for pod in objects["pods"]:
        labels = pod["metadata"]["labels"]
        gates = [g["name"] for g in pod["spec"].get("schedulingGates", [])]
        ready = condition(pod, "Ready").get("status")
        ends = "deletionTimestamp" in pod["metadata"]
        found.append([*(labels.get(k, "") for k in keys), GATE in gates, str(ready), ends])
    return sorted(found) if count else [list(f) for f in sorted(set(map(tuple, found)))]


def _service(objects: Objects, **_: bool) -> list[Any]:
    return [[s["metadata"].get("labels"), s["spec"]] for s in objects["services"]]


def _budget(objects: Objects, **_: bool) -> list[Any]:
    return [b["spec"] for b in objects["poddisruptionbudgets"]]


def _snapshots(objects: Objects, **_: bool) -> Object:
    """Return those of revisions that run, and whether more past ones are kept than there may be."""
    runs = {s["metadata"]["labels"][LABEL_REVISION] for s in objects["replicasets"]}
    kept = {
        r["metadata"]["labels"][LABEL_REVISION]: r["data"] for r in objects["controllerrevisions"]
    }
    past = kept.keys() - runs
    return {
        "run": {name: data for name, data in kept.items() if name in runs},
        "too many": len(past) > RolloutSpec().revision_history_limit,
    }


def _files(objects: Objects, **_: bool) -> Object:
    return {c["metadata"]["name"]: c["data"] for c in objects["configmaps"]}


def _accounts(objects: Objects, **_: bool) -> list[str]:
    return sorted(a["metadata"]["name"] for a in objects["serviceaccounts"])


_PARTS: dict[str, Callable[..., Any]] = {
    "status": _status,
    "ReplicaSets": _replica_sets,
    "pods": _pods,
    "Service": _service,
    "PodDisruptionBudget": _budget,
    "ControllerRevisions": _snapshots,
    "ConfigMaps": _files,
    "ServiceAccounts": _accounts,
}


def _unlike(what: str, old: Any, new: Any) -> Iterator[str]:
    if old != new:
        before, after = (yaml.dump(v, Dumper=_NoAnchors).splitlines() for v in (new, old))
        lines = difflib.unified_diff(before, after, "a fresh C", "the history", n=4, lineterm="")
        yield f"{what}:\n" + "\n".join(lines)
