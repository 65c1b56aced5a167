"""Where an API server is and how to be let in, read from a kubeconfig."""

import base64
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any, Self

import yaml


@dataclass(frozen=True)
class Upstream:
    """An API server; ``ssl`` is True for the system's own certificates."""

    server: str
    ssl: SSLContext | bool = True
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Self:
        """The server of the current context, with its certificates or token."""
        config = yaml.safe_load(path.read_text())
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
        token = (("Authorization", f"Bearer {user['token']}"),) if "token" in user else ()
        server = cluster["server"].rstrip("/")
        secure = server.startswith("https")
        return cls(server, _context(cluster, user, path.parent) if secure else True, token)


def _named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(item for item in items if item["name"] == name)


def _context(cluster: Mapping[str, str], user: Mapping[str, str], base: Path) -> SSLContext:
    authority = _pem(cluster, "certificate-authority", base)
    context = create_default_context(cadata=authority.decode() if authority else None)
    certificate = _pem(user, "client-certificate", base)
    key = _pem(user, "client-key", base)
    if certificate and key:
        # The ssl module loads a client certificate from a file only.
        with tempfile.NamedTemporaryFile(suffix=".pem") as joined:
            joined.write(certificate + b"\n" + key)
            joined.flush()
            context.load_cert_chain(joined.name)
    return context


def _pem(part: Mapping[str, str], key: str, base: Path) -> bytes | None:
    if inline := part.get(f"{key}-data"):
        return base64.b64decode(inline)
    if name := part.get(key):
        return (base / name).read_bytes()
    return None
