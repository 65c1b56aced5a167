"""Endpoint: who may ask a service, by which names, and within which bounds."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from conch.api.base import Bytes, KubeModel, matching, matching_rules, within, within_rules

_HOUR, _DAY = 3600.0, 86400.0
_SILENCE = (0.01, _DAY, "between 10ms and 24h")
_WAIT = (0.0, _HOUR, "of at most 1h")
_LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
# Not an address: the last part begins with a letter.
HOST = rf"^({_LABEL}\.)*[a-z]([-a-z0-9]{{0,61}}[a-z0-9])?$"
HOST_WORDS = (
    "must be a host name in lower-case letters, such as digits.example.com: without scheme, port, "
    "path or wildcard"
)
_TENANT = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?|[*])$"
_TENANT_WORDS = (
    "must be the name of a Tenant or a namespace, such as vision, or * for all that have a key"
)
_SET = {"x-kubernetes-list-type": "set"}


def _distinct(items: list[str]) -> list[str]:
    twice = sorted({i for i in items if items.count(i) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)}: named twice, once is enough")
    return items


Host = Annotated[
    str,
    matching(HOST, HOST_WORDS),
    Field(min_length=1, max_length=253, json_schema_extra=matching_rules(HOST, HOST_WORDS)),
]
Caller = Annotated[
    str,
    matching(_TENANT, _TENANT_WORDS),
    Field(min_length=1, max_length=253, json_schema_extra=matching_rules(_TENANT, _TENANT_WORDS)),
]
Silence = Annotated[
    str, within(*_SILENCE), Field(max_length=32, json_schema_extra=within_rules(*_SILENCE))
]
Wait = Annotated[str, within(*_WAIT), Field(max_length=32, json_schema_extra=within_rules(*_WAIT))]


class Access(StrEnum):
    """Whether callers need a key."""

    KEYS = "Keys"
    OPEN = "Open"


class RequestLimits(KubeModel):
    """What a tenant may ask for at most; the front door answers 429 to more. Unset: no limit."""

    requests_per_second: Annotated[float | None, Field(gt=0, le=1_000_000)] = None
    """requests that begin in a second"""
    concurrent_requests: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """requests under way at a time"""


class Endpoint(KubeModel):
    """How the front door offers the service; without one in the installation it has no effect."""

    hosts: Annotated[
        list[Host],
        AfterValidator(_distinct),
        Field(max_length=16, json_schema_extra=_SET),
    ] = []
    """further host names by which callers ask"""
    access: Access = Access.KEYS
    """Keys: callers send a key of a tenant that may ask; Open: nobody needs one"""
    tenants: Annotated[
        list[Caller],
        AfterValidator(_distinct),
        Field(
            max_length=64,
            json_schema_extra=_SET,
            description="tenants that may ask besides the service's own: names of Tenants, or of "
            "namespaces that belong to none; * for all that have a key",
        ),
    ] = []
    timeout: Annotated[
        Silence, Field(description="longest silence of the model within a request or a stream")
    ] = "60s"
    max_body: Annotated[Bytes, Field(description="largest body of a request; more gets 413")] = (
        "64Mi"
    )
    max_waiting: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """requests that may wait for a replica, at each replica of the front door; one more gets 503"""
    max_wait: Annotated[
        Wait,
        Field(
            description="longest wait of a request for a replica, one that sleeps or starts "
            "included; then it gets 503"
        ),
    ] = "120s"
    replay: bool = False
    """true: a request that a failing replica took is asked of another; not above 16 kB, nor of a sequence. The model may see such a request twice"""
    limits: RequestLimits = RequestLimits()
    """what each tenant may ask of this service"""
    slow_start: Annotated[
        Wait, Field(description="in which a new replica comes to its full share of the requests")
    ] = "10s"
