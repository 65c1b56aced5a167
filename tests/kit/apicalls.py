"""What a request to the API server asks for, read from its path, method and body."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import parse_qs, urlsplit

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
# Leases beat at rest; reviews are questions in the form of a POST.
_UNCOUNTED = {"coordination.k8s.io", "authorization.k8s.io", "authentication.k8s.io"}


@dataclass(frozen=True)
class Call:
    """One request in the API's own words; ``number`` counts writes from 1, else None."""

    verb: str
    group: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    dry_run: bool = False
    continues: bool = False
    """Whether it asks for a further page of a list."""
    number: int | None = None

    @property
    def counts(self) -> bool:
        """Whether it is a write that counts."""
        is_write = self.verb not in ("get", "list", "watch") and bool(self.resource)
        return is_write and not self.dry_run and self.group not in _UNCOUNTED

    def with_number(self, number: int) -> Self:
        """The same call as the ``number``-th write."""
        return replace(self, number=number)

    def __str__(self) -> str:
        kind = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Write:
    """A write and what became of it; ``status`` is None where the client got no answer."""

    call: Call
    status: int | None

    def __str__(self) -> str:
        return f"{self.call.number}: {self.call} -> {self.status or 'no answer'}"


def read_call(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Call:
    """Return what the request asks for. A path outside the API's resources has no resource."""
    url = urlsplit(path)
    query = {key: values[-1] for key, values in parse_qs(url.query).items()}
    group, rest = _group(url.path.strip("/").split("/"))
    namespace, resource, name, subresource = _place(rest)
    named = name or (_name_in(body) if method == "POST" else "")
    return Call(
        verb=_verb(method, headers, query, named=bool(name)),
        group=group,
        resource=resource,
        namespace=namespace,
        name=named,
        subresource=subresource,
        dry_run="dryRun" in query,
        continues="continue" in query,
    )


def _group(parts: list[str]) -> tuple[str, list[str]]:
    """Split off ``api/v1`` or ``apis/GROUP/VERSION``."""
    if parts[0] == "api":
        return "", parts[2:]
    if parts[0] == "apis":
        return (parts[1] if len(parts) > 1 else ""), parts[3:]
    return "", []


def _place(parts: list[str]) -> tuple[str, str, str, str]:
    """Return namespace, resource, name and subresource; what is absent is empty."""
    namespace = ""
    # namespaces/NAME and its subresources are about the namespace itself.
    if len(parts) > 2 and parts[0] == "namespaces" and parts[2] not in ("status", "finalize"):
        namespace, parts = parts[1], parts[2:]
    resource, name, subresource = [*parts, "", "", ""][:3]
    return namespace, resource, name, subresource


def _verb(method: str, headers: Mapping[str, str], query: Mapping[str, str], *, named: bool) -> str:
    if method in ("GET", "HEAD"):
        watching = query.get("watch", "") in ("1", "true")
        return "watch" if watching else "get" if named else "list"
    if method == "PATCH" and "apply-patch" in headers.get("Content-Type", ""):
        return "apply"
    if method == "DELETE" and not named:
        return "deletecollection"
    return _VERBS.get(method, method.lower())


def _name_in(body: bytes) -> str:
    try:
        metadata = json.loads(body)["metadata"]
        return str(metadata.get("name") or metadata.get("generateName", ""))
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
