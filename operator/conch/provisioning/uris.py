"""Reading the URIs of downloads. Light: ``conch fetch`` reads them too, without the kinds' models.

What can't be read is a ValueError with a sentence for people.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

DOCKER_HUB = "docker.io"
_REPOSITORY = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,221}")
_HUB_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")


@dataclass(frozen=True)
class Objects:
    """Objects of a bucket: one, or with ``folder`` those below a path; all where it is empty."""

    bucket: str
    path: str
    folder: bool


@dataclass(frozen=True)
class HubFiles:
    """A repository of a model hub at a revision (None: its main branch), or a path in it."""

    repository: str
    revision: str | None
    path: str


@dataclass(frozen=True)
class Image:
    """An artifact of a registry; ``reference`` is a tag or a digest."""

    registry: str
    repository: str
    reference: str


def read_objects(uri: str) -> Objects:
    """Read ``s3://BUCKET/PATH`` or ``gs://BUCKET/PATH``."""
    parts = _split(uri)
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError(f"{uri}: name a bucket: {parts.scheme}://BUCKET/PATH")
    path = _path(uri, parts.path)
    return Objects(parts.netloc, path.strip("/"), folder=path.endswith("/") or not path.strip("/"))


def read_hub(uri: str) -> HubFiles:
    """Read ``hf://ORGANISATION/NAME[@REVISION][/PATH]``; a slash in a revision is written %2F."""
    parts = _split(uri)
    name, _, path = parts.path.strip("/").partition("/")
    name, at, revision = name.partition("@")
    if (
        not _HUB_NAME.fullmatch(parts.netloc)
        or not _HUB_NAME.fullmatch(name)
        or (at and not revision)
    ):
        raise ValueError(f"{uri}: name a repository: hf://ORGANISATION/NAME[@REVISION][/PATH]")
    return HubFiles(
        f"{parts.netloc}/{name}", unquote(revision) or None, _path(uri, path).strip("/")
    )


def read_image(uri: str) -> Image:
    """Read ``oci://REGISTRY/REPOSITORY[:TAG|@DIGEST]``; without either the tag is ``latest``."""
    parts = _split(uri)
    path, at, digest = parts.path.strip("/").partition("@")
    path, colon, tag = path.partition(":")
    reference = digest if at else tag if colon else "latest"
    right = _DIGEST.fullmatch(digest) if at else _TAG.fullmatch(reference)
    if not parts.hostname or "@" in parts.netloc or not _REPOSITORY.fullmatch(path) or not right:
        raise ValueError(
            f"{uri}: name an artifact: oci://REGISTRY/REPOSITORY:TAG or @sha256:DIGEST"
        )
    if parts.netloc == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    return Image(parts.netloc, path, reference)


READERS = {"s3": read_objects, "gs": read_objects, "hf": read_hub, "oci": read_image}


class _Parts:
    """A URI in parts. ``urlsplit`` would take ``?`` and ``#`` out of the names of objects."""

    def __init__(self, uri: str) -> None:
        self.scheme, _, rest = uri.partition("://")
        self.netloc, slash, path = rest.partition("/")
        self.path = slash + path
        self.hostname = urlsplit(f"//{self.netloc}").hostname


def _split(uri: str) -> _Parts:
    try:
        parts = _Parts(uri)
        _ = urlsplit(f"//{parts.netloc}").port
    except ValueError as error:
        raise ValueError(f"{uri}: is no URI: {error}") from None
    return parts


def _path(uri: str, path: str) -> str:
    path = unquote(path)
    if ".." in path.split("/"):
        raise ValueError(f"{uri}: '..' is not allowed in a path")
    return path
