"""Who may ask a service, and for how much, in one sentence. Pure."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from conch.api.endpoint import Access, Endpoint
from conch.provisioning.service import url

Object = dict[str, Any]
ANYBODY = "*"


def callers(service: Object, tenant: str | None) -> str:
    """Return who may ask a ModelService; ``tenant`` is whose it is, None where that is not known."""
    metadata, spec = service["metadata"], service.get("spec") or {}
    address = (service.get("status") or {}).get("url")
    if address is None:
        return "nobody yet"
    if address == url(metadata["name"], metadata["namespace"]):
        return "whoever reaches it inside the cluster; there is no front door to ask for keys"
    try:
        endpoint = Endpoint.model_validate(spec.get("endpoint") or {})
    except ValidationError:
        return "not known: spec.endpoint can't be read"
    return "; ".join((_who(endpoint, tenant), *_bounds(endpoint)))


def _who(endpoint: Endpoint, tenant: str | None) -> str:
    if endpoint.access is Access.OPEN:
        return "everybody, without a key"
    if ANYBODY in endpoint.tenants:
        return "all that have a key"
    own = f"{tenant}, its own tenant" if tenant else "its own tenant"
    others = [t for t in endpoint.tenants if t != tenant]
    return f"with a key of {own}" + "".join(f", or of {t}" for t in others)


def _bounds(endpoint: Endpoint) -> Iterator[str]:
    limits = endpoint.limits
    told = (
        (limits.requests_per_second, "{:g} requests a second"),
        (limits.concurrent_requests, "{} at a time"),
    )
    parts = [text.format(most) for most, text in told if most is not None]
    if parts:
        yield f"each tenant at most {' and '.join(parts)}"
    if endpoint.hosts:
        yield f"also as {', '.join(endpoint.hosts)}"
