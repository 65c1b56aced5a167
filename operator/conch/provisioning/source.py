"""Where a variant's files come from: reading the URI, and what may be used."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from posixpath import normpath
from urllib.parse import unquote, urlsplit

from conch.api.model import Source
from conch.provisioning.uris import READERS, read_image


class Scheme(StrEnum):
    """The kinds of source that Conch can fetch."""

    PVC = "pvc"
    FILE = "file"
    HTTP = "http"
    HTTPS = "https"
    S3 = "s3"
    GS = "gs"
    HF = "hf"
    OCI = "oci"
    CONFIG_MAP = "configmap"


DOWNLOADED = (Scheme.HTTP, Scheme.HTTPS, Scheme.S3, Scheme.GS, Scheme.HF, Scheme.OCI)
WITH_IDENTITY = (Scheme.S3, Scheme.GS)
"""Those that take a token of the pod's ServiceAccount in exchange for their own credentials."""


@dataclass(frozen=True)
class Location:
    """A source, read: the claim or ConfigMap by name, the path there, the URI for people."""

    scheme: Scheme
    uri: str
    name: str = ""
    path: str = ""


def location(source: Source) -> Location:
    """Return where the files are. Raises ValueError with a sentence for people."""
    if source.config_map:
        return Location(
            Scheme.CONFIG_MAP,
            uri=f"configmap://{source.config_map.name}",
            name=source.config_map.name,
        )
    return _from_uri(source.uri or "")


@lru_cache(maxsize=4096)
def _from_uri(uri: str) -> Location:
    scheme = uri.partition("://")[0]
    if scheme in READERS:
        READERS[scheme](uri)
        return Location(Scheme(scheme), uri)
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{uri}: is no URI: {error}") from None
    known = {str(s) for s in Scheme if s is not Scheme.CONFIG_MAP}
    if parts.scheme not in known:
        raise ValueError(
            f"{uri}: there are no {parts.scheme or 'such'}:// sources; use pvc://CLAIM/PATH, "
            "file:///PATH, http(s)://HOST/PATH, s3://BUCKET/PATH, gs://BUCKET/PATH, "
            "hf://ORGANISATION/NAME, oci://REGISTRY/REPOSITORY or configMap"
        )
    scheme = Scheme(parts.scheme)
    if scheme in DOWNLOADED:
        if not parts.hostname or parts.path in ("", "/"):
            raise ValueError(f"{uri}: name a host and a file: {scheme}://HOST/PATH")
        return Location(scheme, uri)
    path = unquote(parts.path)
    if ".." in path.split("/"):
        raise ValueError(f"{uri}: '..' is not allowed in a path")
    return _local(scheme, uri, parts.netloc, path)


def _local(scheme: Scheme, uri: str, netloc: str, path: str) -> Location:
    if scheme is Scheme.PVC:
        if not netloc:
            raise ValueError(f"{uri}: name a claim: pvc://CLAIM/PATH")
        return Location(scheme, uri, name=netloc, path=path.strip("/"))
    if netloc or not path.strip("/"):
        raise ValueError(f"{uri}: write file:///PATH with three slashes")
    return Location(scheme, uri, path="/" + normpath(path).strip("/"))


def endpoint_key(place: Location) -> str | None:
    """Return under which key an installation sets a source's endpoint; None for mounted ones."""
    if place.scheme is Scheme.OCI:
        return f"oci/{read_image(place.uri).registry}"
    return str(place.scheme) if str(place.scheme) in READERS else None


def allowed(uri: str, prefixes: Sequence[str]) -> bool:
    """Return whether the installation lets models be read from ``uri``.

    Only ``file://`` is limited: its path must be one of ``prefixes`` or lie below one.
    """
    if not uri.startswith("file:"):
        return True
    try:
        path = _from_uri(uri).path
    except ValueError:
        return False
    return bool(_around(path, prefixes))


def file_root(place: Location, prefixes: Sequence[str]) -> str:
    """Return the directory of the nodes that is mounted for a ``file://`` source.

    It is the prefix that the installation allows, which is there, so that a path below it that
    is not there becomes an error that the fetch can tell. The whole file system is never mounted.
    """
    roots = [root for root in _around(place.path, prefixes) if root != "/"]
    return max(roots, key=len, default=place.path)


def _around(path: str, prefixes: Sequence[str]) -> list[str]:
    """Return the prefixes at or above a path."""
    roots = ["/" + normpath(p).strip("/") for p in prefixes]
    return [root for root in roots if f"{path}/".startswith(root.rstrip("/") + "/")]


def source_problem(source: Source, prefixes: Sequence[str]) -> str | None:
    """Return in a sentence why ``source`` can't be used, or None where it can."""
    try:
        place = location(source)
    except ValueError as error:
        return str(error)
    if not allowed(place.uri, prefixes):
        where = ", ".join(prefixes) or "nowhere"
        return f"{place.uri}: this installation allows file:// sources below: {where}"
    if source.secret_ref and place.scheme not in DOWNLOADED:
        return f"{place.uri}: secretRef is for sources that are downloaded"
    if source.token_audience and place.scheme not in WITH_IDENTITY:
        return f"{place.uri}: tokenAudience is for s3:// and gs:// sources"
    return None
