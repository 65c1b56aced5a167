"""What the protocols have in common: files by name, size and version, and how one is asked for.

A protocol lists what a source holds and answers GET requests for its files. What is the same for
all (ranges, resuming, attempts, checks) is in ``conch.clients.downloads``.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit, urlunsplit

from conch.clients.source_errors import SourceUnavailableError

if TYPE_CHECKING:
    import requests


@dataclass(frozen=True)
class Place:
    """A source to download: its URI, and how this installation reaches it.

    ``endpoint`` is the URL of a mirror or of a server of one's own. ``credentials`` is the
    directory of a Secret's files, ``token`` the file of a ServiceAccount's token; ``secret_name``
    is for messages.
    """

    uri: str
    endpoint: str | None = None
    credentials: Path | None = None
    secret_name: str | None = None
    token: Path | None = None


@dataclass(frozen=True)
class Checksum:
    """What a protocol says that a file's bytes give; ``value`` is hexadecimal."""

    algorithm: str
    value: str


@dataclass(frozen=True)
class RemoteFile:
    """A file of a source. ``path`` is where it goes, ``key`` what its server calls it.

    ``size`` is in bytes, None where the server does not say. ``version`` changes with the bytes;
    without one, a download that broke off begins anew.
    """

    path: str
    key: str
    size: int | None = None
    version: str | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True)
class Listing:
    """What a source holds now: one file, or those of a directory.

    ``unpack`` names the files that are archives of the directory's content, lowest first.
    """

    files: tuple[RemoteFile, ...]
    is_file: bool
    identity: str | None = None
    """What changes with any of it, such as a commit; None where the server does not tell."""
    unpack: frozenset[str] = frozenset()


class Remote(Protocol):
    """One source, reachable. Its methods raise what ``conch.clients.source_errors`` has."""

    def listing(self) -> Listing:
        """Return what there is now. Downloads no file."""

    def get(self, file: RemoteFile, headers: Mapping[str, str]) -> "requests.Response":
        """Ask for a file, or for the range that ``headers`` name; the answer streams."""

    def refused(self, response: "requests.Response") -> str:
        """Return in words for people what an answer other than success means."""

    def checksum(self, file: RemoteFile) -> Checksum | None:
        """Return what the bytes of a file, which is here now, should give; None where unknown."""


def safe(path: str) -> str:
    """Return a path as a server gives it. Raises SourceUnavailableError where it leads out."""
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise SourceUnavailableError(f"the source holds {path!r}, which leads out of it")
    return path


def identity_of(files: Sequence[RemoteFile], *, where: str) -> str | None:
    """Return a digest of names, sizes and versions; None where one has no version.

    ``where`` tells servers apart: versions of two of them may be alike by chance.
    """
    if not files or any(f.version is None or f.size is None for f in files):
        return None
    rows = sorted((f.path, f.size, f.version) for f in files)
    return hashlib.sha256(json.dumps([where, rows]).encode()).hexdigest()


def public(uri: str) -> str:
    """Return a URI without what may be secret: user, password and query (signatures)."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return uri
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
