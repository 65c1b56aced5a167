"""Keys with which callers ask services: Secrets that the front door reads. Pure."""

import base64
import binascii
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from conch.api.names import API_KEYS, LABEL_API_KEYS
from conch.cli.plugin_target import PluginError
from conch.cli.plugin_tenants import Owners
from conch.frontdoor.lookups import SHORTEST_KEY, digest
from conch.reconcile import views

Object = dict[str, Any]

KEY_BYTES = 32
PREFIX = "conch_"
"""By which those who look for keys in the wrong places know one."""
_ID_DIGITS = 8
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


class State(StrEnum):
    """Whether the front door takes a key."""

    GOOD = "good"
    SHORT = "too short"
    UNREADABLE = "unreadable"
    TWICE = "held by two tenants"
    OWNERLESS = "of no tenant"


@dataclass(frozen=True)
class KeyLine:
    """A key, without the key."""

    namespace: str
    name: str
    """Of the Secret."""
    key: str
    """Of the entry in it."""
    tenant: str | None
    state: State
    age_seconds: float
    """Of the Secret."""


def new_key() -> str:
    """Return a fresh key of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(KEY_BYTES)


def entry_of(key: str) -> str:
    """Return what a key is called in its Secret: nothing that tells the key."""
    return f"key-{digest(key)[:_ID_DIGITS]}"


def data_of(key: str) -> dict[str, str]:
    """Return the entry of a key, as a Secret's ``data`` has it."""
    return {entry_of(key): base64.b64encode(key.encode()).decode()}


def secret(name: str, namespace: str, label: str, key: str) -> Object:
    """Return the Secret of a key."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": {LABEL_API_KEYS: label}},
        "type": "Opaque",
        "data": data_of(key),
    }


def checked_tenant(name: str, owners: Owners, *, is_namespace: bool) -> str:
    """Return the name of a tenant. Raises PluginError where there is none of that name."""
    if name in owners.tenants:
        return name
    if name in owners.by_namespace:
        whose = owners.by_namespace[name]
        raise PluginError(f"namespace {name!r} belongs to Tenant {whose!r}: write --tenant {whose}")
    if not is_namespace:
        there = ", ".join(sorted(owners.tenants))
        hint = f"; Tenants: {there}" if there else ""
        raise PluginError(f"there is no Tenant and no namespace {name!r}{hint}")
    return name


def label_for(namespace: str, tenant: str | None, *, home: str | None, owners: Owners) -> str:
    """Return the label of a Secret of keys; ``home`` is the front door's namespace, where known.

    There the label says whose the keys are; elsewhere they are of the namespace's tenant, and
    another may not be named. Raises PluginError.
    """
    if tenant is None and namespace == home:
        raise PluginError("say whose key it is: --tenant NAME")
    elsewhere = home is not None and namespace != home
    if elsewhere and tenant not in (None, owners.of(namespace)):
        raise PluginError(
            f"keys in namespace {namespace!r} are of its tenant, {owners.of(namespace)!r}; leave "
            f"out -n for a key of {tenant!r}"
        )
    label = tenant or API_KEYS
    if not _LABEL.fullmatch(label):
        raise PluginError(
            f"{label!r} is too long for a label: put the key into one of its namespaces, by -n and "
            "without --tenant"
        )
    return label


def is_of_keys(body: Object) -> bool:
    """Tell whether a Secret holds keys."""
    return LABEL_API_KEYS in (body["metadata"].get("labels") or {})


def lines(
    found: Iterable[Object], *, owners: Owners, home: str | None, now: float
) -> tuple[KeyLine, ...]:
    """Return the keys of Secrets; ``now`` in seconds since the epoch."""
    bodies = sorted(found, key=lambda b: (b["metadata"]["namespace"], b["metadata"]["name"]))
    whose = [(body, _tenant(body, owners, home)) for body in bodies]
    holders: dict[str, set[str | None]] = {}
    for body, tenant in whose:
        for key in map(_read, (body.get("data") or {}).values()):
            holders.setdefault(digest(key or ""), set()).add(tenant)
    return tuple(
        _line(body, entry, tenant, _state(_read(value), tenant, holders), now)
        for body, tenant in whose
        for entry, value in sorted((body.get("data") or {}).items())
    )


def _line(body: Object, entry: str, tenant: str | None, state: State, now: float) -> KeyLine:
    metadata = body["metadata"]
    age = now - views.seconds_of(metadata["creationTimestamp"])
    return KeyLine(metadata["namespace"], metadata["name"], entry, tenant, state, age)


def _tenant(body: Object, owners: Owners, home: str | None) -> str | None:
    """Return whose keys a Secret holds, as the front door sees it."""
    namespace, label = body["metadata"]["namespace"], body["metadata"]["labels"][LABEL_API_KEYS]
    if namespace != home or label == API_KEYS:
        return owners.of(namespace)
    return label if label in owners.tenants or label not in owners.by_namespace else None


def _read(value: str) -> str | None:
    try:
        return base64.b64decode(value, validate=True).decode().strip()
    except (binascii.Error, ValueError):
        return None


def _state(key: str | None, tenant: str | None, holders: Mapping[str, set[str | None]]) -> State:
    if key is None:
        return State.UNREADABLE
    if len(key) < SHORTEST_KEY:
        return State.SHORT
    if tenant is None:
        return State.OWNERLESS
    return State.TWICE if len(holders[digest(key)]) > 1 else State.GOOD
