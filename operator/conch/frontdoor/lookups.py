"""What HAProxy's maps hold: keys, hosts, services, grants, limits. Pure."""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from conch.api.endpoint import RequestLimits
from conch.api.names import API_KEYS, LABEL_API_KEYS
from conch.decisions.fleet import ServiceKey
from conch.frontdoor.routes import ANYBODY, Route

Object = Mapping[str, Any]
SHORTEST_KEY = 16
SLOW = 5.0
"""Requests a second below which a limit counts over ten seconds: parts of a request don't exist."""
TEN = 10.0


@dataclass(frozen=True)
class Tenants:
    """Who the tenants are."""

    owners: Mapping[str, str]
    """Tenant by namespace, of those that belong to one."""
    limits: Mapping[str, RequestLimits]
    """By Tenant; also says which there are."""

    def of(self, namespace: str) -> str:
        """Return the tenant of a namespace; of none, the namespace is one."""
        return self.owners.get(namespace, f"namespace/{namespace}")

    def named(self, name: str) -> str | None:
        """Return the tenant that people mean: a Tenant, else the namespace that belongs to none.

        None where the name is that of a namespace that belongs to a Tenant.
        """
        if name in self.limits:
            return name
        return None if name in self.owners else f"namespace/{name}"


def keys_of(secrets: Iterable[Object], tenants: Tenants, home: str) -> dict[str, str]:
    """Return the tenant of each key, by its digest.

    A Secret in ``home``, the installation's own namespace, names the tenant in its label; elsewhere
    its keys are of its namespace's tenant, whatever it says. Of two that hold one key, neither
    counts.
    """
    found: dict[str, str] = {}
    twice: set[str] = set()
    for secret in secrets:
        tenant = tenant_of(secret, tenants, home)
        for key in _keys(secret) if tenant is not None else ():
            name = digest(key)
            if found.setdefault(name, tenant or "") != tenant:
                twice.add(name)
    return {name: tenant for name, tenant in found.items() if name not in twice}


def tenant_of(secret: Object, tenants: Tenants, home: str) -> str | None:
    """Return whose keys a Secret holds, None where that is nobody."""
    meta = secret["metadata"]
    said = (meta.get("labels") or {}).get(LABEL_API_KEYS)
    if said is None or "deletionTimestamp" in meta:
        return None
    if meta["namespace"] == home and said != API_KEYS:
        return tenants.named(said)
    return tenants.of(meta["namespace"])


def _keys(secret: Object) -> list[str]:
    """Return the keys that a Secret holds; what is too short to be one is none."""
    found = []
    for value in (secret.get("data") or {}).values():
        try:
            key = base64.b64decode(value, validate=True).decode().strip()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            continue
        if len(key) >= SHORTEST_KEY:
            found.append(key)
    return found


def digest(key: str) -> str:
    """Return what stands for a key in HAProxy's memory: SHA-256, in hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


def callers_of(route: Route, tenants: Tenants) -> set[str]:
    """Return the tenants that may ask a service with their keys; ``*`` is all."""
    named = (c if c == ANYBODY else tenants.named(c) for c in route.callers)
    return {route.tenant, *(c for c in named if c is not None)}


def service_entries(route: Route, tenants: Tenants) -> dict[str, dict[str, str]]:
    """Return the entries of one service, by map; limits apart."""
    name = str(route.key)
    return {
        "services": {name: "1"},
        "open": {name: "1"} if route.rules.open else {},
        "grants": {f"{caller}|{name}": "1" for caller in sorted(callers_of(route, tenants))},
        "models": {name: route.model} if route.model else {},
        "bodies": {name: str(route.rules.max_body)},
    }


def host_entries(hosts: Mapping[str, ServiceKey]) -> dict[str, str]:
    """Return the entries of the map of hosts."""
    return {host: str(key) for host, key in hosts.items()}


def limit_entries(name: str, limits: RequestLimits, share: float) -> dict[str, dict[str, str]]:
    """Return the entries of the maps of limits, for what stands under ``name`` there.

    ``share``: the part of a limit that this replica of the front door may give out.
    """
    found: dict[str, dict[str, str]] = {"rate": {}, "rate10": {}, "concurrent": {}}
    if limits.requests_per_second is not None:
        mine = limits.requests_per_second * share
        if mine >= SLOW:
            found["rate"][name] = str(int(mine))
        else:
            found["rate10"][name] = str(max(1, int(mine * TEN)))
    if limits.concurrent_requests is not None:
        found["concurrent"][name] = str(max(1, int(limits.concurrent_requests * share)))
    return found
