"""How this installation runs; given on the command line, set by the chart."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from conch.api.endpoint import HOST
from conch.decisions.shares.usage import HALF_LIFE_S
from conch.provisioning.coexistence import Coexistence
from conch.provisioning.network_policy import Isolation
from conch.provisioning.snapshot import Images
from conch.reconcile.node_signs import SIGNS

_URL = re.compile(r"https?://[^\s/:?#@]+(:[0-9]+)?")
_HOST_AND_PORT = re.compile(r"[^\s/:?#@]+:[0-9]+")


@dataclass(frozen=True)
class FrontDoor:
    """The installation's front door: where callers reach it, and who else reaches pods.

    Raises ValueError with a sentence for people where an address is none.
    """

    url: str
    """HTTP address, without a path: http://conch-front-door.conch-system.svc"""
    grpc: str
    """Host and port: conch-front-door.conch-system.svc:8001"""
    domain: str | None = None
    """In which each service has a host of its own, SERVICE.NAMESPACE.DOMAIN; None for none."""
    isolate: bool = False
    """Whether pods of services take requests from the front door alone, by NetworkPolicies."""
    metrics_namespaces: tuple[str, ...] = ()
    """Whose pods may reach the metrics of isolated pods; of any namespace where none is named."""

    def __post_init__(self) -> None:
        """Refuse what is no address."""
        if not _URL.fullmatch(self.url):
            raise ValueError(
                f"front door's URL: {self.url!r} is not of the form http://HOST or https://HOST, "
                "with a port where it is another than 80 or 443, and nothing behind it"
            )
        if not _HOST_AND_PORT.fullmatch(self.grpc):
            raise ValueError(f"front door's gRPC: {self.grpc!r} is not of the form HOST:PORT")
        if self.domain is not None and not re.fullmatch(HOST, self.domain):
            raise ValueError(
                f"front door's domain: {self.domain!r} is not a domain in lower-case letters, such "
                "as models.example.com"
            )

    def url_of(self, namespace: str, service: str) -> str:
        """Return the HTTP address of a service, without a slash at its end."""
        if self.domain is None:
            return f"{self.url}/{namespace}/{service}"
        parts = urlsplit(self.url)
        port = "" if parts.port is None else f":{parts.port}"
        return f"{parts.scheme}://{service}.{namespace}.{self.domain}{port}"

    def grpc_of(self, namespace: str, service: str) -> str:
        """Return the host and port of a service over gRPC.

        Without a domain it is that of all services: callers name theirs in the metadata.
        """
        if self.domain is None:
            return self.grpc
        return f"{service}.{namespace}.{self.domain}:{self.grpc.rpartition(':')[2]}"


class Planning(StrEnum):
    """What the planner of migrations may do."""

    ON = "on"
    """Move what is worth it."""
    PROPOSE = "propose"
    """Say what it would move, and leave it to people."""
    OFF = "off"


@dataclass(frozen=True)
class Settings:
    """Times in seconds."""

    images: Images
    prometheus_url: str | None = None
    lease_namespace: str = "conch-system"
    lease_name: str = "conch-operator"
    identity: str = "conch"
    tick_seconds: float = 5.0
    """How often metrics are asked for and scaling is decided."""
    relist_seconds: float = 60.0
    """How often every kind is listed afresh, so that nothing missed stays missed."""
    file_prefixes: tuple[str, ...] = ()
    """Directories on nodes that file:// sources may name; none by default, since they are the
    node's own."""
    endpoints: Mapping[str, str] = field(default_factory=dict)
    """Where sources are downloaded from: by s3, gs, hf, or oci/REGISTRY."""
    cache_path: str | None = None
    """The directory of the nodes that caches models; None for none."""
    dra: bool = False
    """Whether pools may be of mode DRA: then its kinds are read, which takes their permissions."""
    others: Coexistence = field(default_factory=Coexistence)
    """Who else acts on pods here."""
    front_door: FrontDoor | None = None
    """Through which services are reached; None: each has its own address inside the cluster only."""
    usage_half_life: float = HALF_LIFE_S
    """After which what a tenant held counts half."""
    planning: Planning = Planning.ON
    node_signs: Mapping[str, str] = field(default_factory=lambda: SIGNS)
    """Conditions of nodes, by type, with the status in which they are signs of failing."""
    concurrency: int = 16
    """Services whose writes are under way at once."""

    @property
    def isolation(self) -> Isolation | None:
        """Who may reach the pods of services; None is anybody."""
        door = self.front_door
        if door is None or not door.isolate:
            return None
        return Isolation(self.lease_namespace, door.metrics_namespaces)
