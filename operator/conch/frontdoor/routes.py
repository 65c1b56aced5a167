"""From the cluster's objects to routes: who may ask which service, and which pods answer. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conch.api.base import parse_duration, parse_quantity
from conch.api.endpoint import Access, Endpoint, RequestLimits
from conch.api.names import LABEL_POOL, LABEL_REVISION, LABEL_SERVING, SERVING, TRITON_CONTAINER
from conch.api.pool import GPUPoolSpec
from conch.decisions.fleet import ServiceKey

Object = Mapping[str, Any]
_LOADS, _IS = "--load-model=", "--id="
PLAIN, HEAVIEST = 64, 256
"""Weight of a replica on an accelerator of speed 1, and the greatest that HAProxy knows."""
_CANARY = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,62})=([0-9]{1,3}(?:\.[0-9]{1,2})?)")
WHOLE = 10_000
"""Hundredths of a percent, in which shares are drawn."""
ANYBODY = "*"
"""In spec.endpoint.tenants: whoever has a key."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One pod of a service, as traffic sees it."""

    uid: str
    name: str
    address: str
    """Its IP address; empty before it has one."""
    takes: bool
    """Whether new requests may go to it: it is ready, has the traffic label, and is of the revision
    that the Service selects."""
    leaves: bool
    """Whether it has lost its traffic or is being deleted: what is under way there is waited for."""
    model: str | None
    """Triton's name of the model that it loads."""
    proves: bool
    """Whether its Triton says which service it serves."""
    weight: int = PLAIN
    """What it takes against others, by its accelerator's speed."""
    canary: bool = False
    """Whether it takes only requests that are drawn for it, as long as others take the rest."""


@dataclass(frozen=True, slots=True)
class Canary:
    """A revision that gets a share of the requests, to see whether it is fit for all."""

    revision: str
    stable: str
    """The revision that gets the others."""
    share: int
    """Hundredths of a percent, above 0."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What spec.endpoint says, in seconds and bytes."""

    open: bool = False
    timeout: float = 60.0
    max_body: int = 64 << 20
    max_waiting: int = 1000
    max_wait: float = 120.0
    replay: bool = False
    slow_start: float = 10.0
    limits: RequestLimits = field(default_factory=RequestLimits)
    """What each tenant may ask."""


@dataclass(frozen=True, slots=True)
class Route:
    """A service behind the front door."""

    key: ServiceKey
    tenant: str
    """Whose it is."""
    callers: tuple[str, ...]
    """Further tenants that may ask it; ``*`` is all."""
    host: str | None
    """Its own name in the installation's domain, in lower case."""
    hosts: tuple[str, ...]
    """Further names that it asks for, in lower case."""
    rules: Rules
    replicas: tuple[Replica, ...] = ()
    canary: Canary | None = None

    @property
    def model(self) -> str | None:
        """Triton's name of the model that answers now, as far as that is known."""
        named = [r for r in self.replicas if r.model is not None]
        taking = sorted((r for r in named if r.takes), key=lambda r: r.canary)
        return (taking or named)[0].model if named else None

    @property
    def proven(self) -> bool:
        """Whether every pod that may answer says whose it is."""
        return all(r.proves for r in self.replicas)


def rules_of(endpoint: Endpoint) -> Rules:
    """Return what a service's endpoint asks for."""
    return Rules(
        open=endpoint.access is Access.OPEN,
        timeout=parse_duration(endpoint.timeout),
        max_body=int(parse_quantity(endpoint.max_body)),
        max_waiting=endpoint.max_waiting,
        max_wait=parse_duration(endpoint.max_wait),
        replay=endpoint.replay,
        slow_start=parse_duration(endpoint.slow_start),
        limits=endpoint.limits,
    )


def route_of(
    key: ServiceKey,
    endpoint: Endpoint,
    *,
    tenant: str,
    domain: str | None,
    revision: str | None,
    pods: Iterable[Object],
    weights: Mapping[str, int] = {},  # never changed
    canary: tuple[str, int] | None = None,
) -> Route:
    """Return the route of a service.

    ``domain``: that of the installation's hosts, None where it has none. ``revision``: the one that
    the Service selects, None while there is no Service. ``pods``: all pods of the service.
    ``weights``: those of pods, by the pool that their label names. ``canary``: a revision and its
    share; without a pod, or as the one that is selected, it is none.
    """
    pods = list(pods)
    found = None
    if canary is not None and revision not in (None, canary[0]):
        there = any(_revision(p) == canary[0] for p in pods)
        found = Canary(canary[0], str(revision), canary[1]) if there else None
    replicas = (replica_of(p, revision, weights, found) for p in pods)
    return Route(
        key=key,
        tenant=tenant,
        callers=tuple(endpoint.tenants),
        host=f"{key.name}.{key.namespace}.{domain}".lower() if domain else None,
        hosts=tuple(h.lower() for h in endpoint.hosts),
        rules=rules_of(endpoint),
        replicas=tuple(sorted(replicas, key=lambda r: r.name)),
        canary=found,
    )


def canary_of(text: str) -> tuple[str, int] | None:
    """Return revision and share (hundredths of a percent) of ``REVISION=PERCENT``; None if malformed."""
    match = _CANARY.fullmatch(text.strip())
    if match is None:
        return None
    share = round(float(match[2]) * (WHOLE // 100))
    return (match[1], share) if 0 < share <= WHOLE else None


def _revision(pod: Object) -> str | None:
    found: str | None = (pod["metadata"].get("labels") or {}).get(LABEL_REVISION)
    return found


def replica_of(
    pod: Object, revision: str | None, weights: Mapping[str, int], canary: Canary | None = None
) -> Replica:
    """Return a pod as traffic sees it, where the Service selects that revision."""
    meta, status = pod["metadata"], pod.get("status") or {}
    labels = meta.get("labels") or {}
    deleted = "deletionTimestamp" in meta
    serving = labels.get(LABEL_SERVING) == SERVING and not deleted
    drawn = canary is not None and _revision(pod) == canary.revision
    selected = drawn or (revision is not None and _revision(pod) == revision)
    args = _triton_args(pod)
    address = str(status.get("podIP") or "")
    return Replica(
        uid=meta["uid"],
        name=meta["name"],
        address=address,
        takes=bool(address) and serving and selected and _ready(status),
        leaves=not serving,
        model=next((a.removeprefix(_LOADS) for a in args if a.startswith(_LOADS)), None),
        proves=any(a.startswith(_IS) for a in args),
        weight=weights.get(labels.get(LABEL_POOL, ""), PLAIN),
        canary=drawn,
    )


def weight_of(pool: GPUPoolSpec) -> int:
    """Return the weight of replicas on a pool's devices: in proportion to their speed."""
    speed = pool.relative_speed / pool.sharing.devices_per_gpu
    return min(HEAVIEST, max(1, round(PLAIN * speed)))


def _ready(status: Object) -> bool:
    conditions: Sequence[Object] = status.get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _triton_args(pod: Object) -> list[str]:
    containers: Sequence[Object] = pod.get("spec", {}).get("containers") or ()
    found = next((c for c in containers if c.get("name") == TRITON_CONTAINER), {})
    return [str(a) for a in found.get("args") or ()]


@dataclass(frozen=True, slots=True)
class Own:
    """Hosts that no service may have: who asks the front door by them means others by the path."""

    hosts: frozenset[str] = frozenset()
    """Names of the front door itself."""
    service: str | None = None
    """NAME.NAMESPACE.svc of its Service; what comes after is the cluster's domain."""
    domain: str | None = None
    """In which each service has its own name, and may have no other."""

    def reserved(self, host: str) -> bool:
        """Tell whether a service may not name a host."""
        if host in self.hosts or (self.domain is not None and _within(host, self.domain)):
            return True
        if self.service is None:
            return False
        name, namespace, _ = self.service.split(".", 2)
        short = (name, f"{name}.{namespace}", self.service)
        return host in short or host.startswith(f"{self.service}.")


def _within(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def hosts_of(
    routes: Iterable[Route], created: Mapping[ServiceKey, str], own: Own
) -> dict[str, ServiceKey]:
    """Return whose each host is: one that is a service's own can't be had by others, nor one of ``own``.

    Else it belongs to the oldest that names it, then to the first by name. ``created``: ISO 8601.
    """
    known = sorted(routes, key=lambda r: (created.get(r.key, ""), r.key))
    found = {r.host: r.key for r in known if r.host is not None}
    for route in known:
        for host in route.hosts:
            if not own.reserved(host):
                found.setdefault(host, route.key)
    return found
