"""What names the version of a source without downloading it: the key of a cache."""

from dataclasses import dataclass
from pathlib import Path

import requests

from conch.clients.downloads import CONNECT_SECONDS, READ_SECONDS, authorization, authorize, public


@dataclass(frozen=True)
class Fingerprint:
    """A text that changes with the content, and the size in bytes where the source tells it."""

    text: str
    size: int | None


def fingerprint(uri: str, credentials: Path | None = None) -> Fingerprint | None:
    """Return the fingerprint of a download, or None where the server names no version.

    Asks once: who gets no answer downloads, and is told then what is wrong.
    """
    with requests.Session() as session:
        try:
            authorize(session, authorization(credentials))
            answer = session.head(
                uri,
                allow_redirects=True,
                headers={"Accept-Encoding": "identity"},
                timeout=(CONNECT_SECONDS, READ_SECONDS),
            )
        except requests.RequestException:
            return None
    if not answer.ok:
        return None
    return _of(uri, answer)


def _of(uri: str, answer: requests.Response) -> Fingerprint | None:
    """Return the fingerprint that a server's answer gives; a weak ETag is no promise of bytes."""
    length = answer.headers.get("Content-Length", "")
    size = int(length) if length.isdecimal() else None
    etag = answer.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return Fingerprint(f"{public(uri)} etag {etag}", size)
    modified = answer.headers.get("Last-Modified")
    if modified and size is not None:
        return Fingerprint(f"{public(uri)} modified {modified} size {size}", size)
    return None
