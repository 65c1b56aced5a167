"""How this front door is set up: given on the command line, set by the chart."""

from dataclasses import dataclass
from pathlib import Path

from conch.api.names import (
    PORT_FRONT_DOOR_AGENT,
    PORT_FRONT_DOOR_HEALTH,
    PORT_FRONT_DOOR_HTTP,
    PORT_FRONT_DOOR_HTTPS,
)

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
"""Those by which tokens may be signed. A secret that is shared (HS256) would stand in HAProxy's file,
and HAProxy 2.6 knows no PS256."""


@dataclass(frozen=True, slots=True)
class Jwt:
    """How JSON Web Tokens are verified (RFC 7519)."""

    algorithm: str
    """Such as RS256: the only one that is taken, whatever a token says of itself."""
    key_file: Path
    """A public key in PEM."""
    tenant_claim: str = "tenant"
    """The claim that names the tenant."""
    issuer: str | None = None
    audience: str | None = None


SCRIPTS = ("hold.lua", "refuse.lua", "draw.lua")
"""Files of this package."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Times in seconds."""

    directory: Path
    """What HAProxy and the agent share."""
    http_port: int = PORT_FRONT_DOOR_HTTP
    https_port: int = PORT_FRONT_DOOR_HTTPS
    health_port: int = PORT_FRONT_DOOR_HEALTH
    agent_port: int = PORT_FRONT_DOOR_AGENT
    address: str = ""
    """Where HAProxy listens; empty: everywhere."""
    threads: int = 2
    max_connections: int = 10_000
    per_source: int = 2_000
    """Connections of one address at a time; a load balancer that hides addresses counts as one."""
    head_timeout: float = 10.0
    longest_stream: float = 3600.0
    """For which a worker that was replaced goes on with what it has under way."""
    tls: bool = False
    """Whether there is a certificate."""
    jwt: Jwt | None = None

    @property
    def config_file(self) -> Path:
        """HAProxy's configuration."""
        return self.directory / "haproxy.cfg"

    @property
    def certificate(self) -> Path:
        """Certificate and key, in one file."""
        return self.directory / "tls.pem"

    @property
    def scripts(self) -> tuple[Path, ...]:
        """The Lua scripts that HAProxy loads."""
        return tuple(self.directory / name for name in SCRIPTS)

    @property
    def stats_socket(self) -> Path:
        """The newest worker's runtime API."""
        return self.directory / "stats.sock"

    @property
    def master_socket(self) -> Path:
        """The master's, which reaches older workers too."""
        return self.directory / "master.sock"

    @property
    def log_socket(self) -> Path:
        """Where the agent hears of requests."""
        return self.directory / "log.sock"

    @property
    def held_socket(self) -> str:
        """Where requests wait, in HAProxy's words."""
        return f"unix@{self.directory / 'held.sock'}"

    def drawn_socket(self, which: str) -> str:
        """Return where requests go on that were drawn for a canary: ``canary``, or back to ``stable``."""
        return f"unix@{self.directory / f'drawn-{which}.sock'}"

    def map_file(self, name: str) -> Path:
        """Return the file of a map, which is also its name at run time."""
        return self.directory / "maps" / f"{name}.map"
