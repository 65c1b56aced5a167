"""How this installation runs; given on the command line, set by the chart."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from conch.decisions.shares.usage import HALF_LIFE_S
from conch.provisioning.coexistence import Coexistence
from conch.provisioning.snapshot import Images


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
    usage_half_life: float = HALF_LIFE_S
    """After which what a tenant held counts half."""
    concurrency: int = 16
    """Services whose writes are under way at once."""
