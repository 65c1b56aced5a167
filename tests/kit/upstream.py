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
        cluster, user = _current(path)
        token = (("Authorization", f"Bearer {user['token']}"),) if "token" in user else ()
        server = cluster["server"].rstrip("/")
        secure = server.startswith("https")
        return cls(server, _context(cluster, user, path.parent) if secure else True, token)


def client_pem(kubeconfig: Path, directory: Path) -> tuple[str, str]:
    """Write what a client needs as PEM files: return the authority, and certificate with key."""
    cluster, user = _current(kubeconfig)
    authority, client = directory / "authority.pem", directory / "client.pem"
    authority.write_bytes(_pem(cluster, "certificate-authority", kubeconfig.parent) or b"")
    client.touch(mode=0o600)
    client.write_bytes(_certificate(user, kubeconfig.parent) or b"")
    return str(authority), str(client)


def _current(kubeconfig: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the cluster and the user of the current context."""
    config = yaml.safe_load(kubeconfig.read_text())
    context = _named(config["contexts"], config["current-context"])["context"]
    cluster = _named(config["clusters"], context["cluster"])["cluster"]
    return cluster, _named(config["users"], context["user"])["user"]


def _named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(item for item in items if item["name"] == name)


def _context(cluster: Mapping[str, str], user: Mapping[str, str], base: Path) -> SSLContext:
    authority = _pem(cluster, "certificate-authority", base)
    context = create_default_context(cadata=authority.decode() if authority else None)
    if certificate := _certificate(user, base):
        # The ssl module loads a client certificate from a file only.
        with tempfile.NamedTemporaryFile(suffix=".pem") as joined:
            joined.write(certificate)
            joined.flush()
            context.load_cert_chain(joined.name)
    return context


def _certificate(user: Mapping[str, str], base: Path) -> bytes | None:
    certificate = _pem(user, "client-certificate", base)
    key = _pem(user, "client-key", base)
    return certificate + b"\n" + key if certificate and key else None


def _pem(part: Mapping[str, str], key: str, base: Path) -> bytes | None:
    if inline := part.get(f"{key}-data"):
        return base64.b64decode(inline)
    if name := part.get(key):
        return (base / name).read_bytes()
    return None
