"""``oci://``: artifacts and images of a registry, by the OCI distribution specification.

Layers that are archives are unpacked over one another, others are files under the name that their
annotation gives (as oras, ORAS-based tools and the CNCF's ModelPack write them).
"""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import requests

from conch.clients.remotes.base import Checksum, Listing, Place, RemoteFile, safe
from conch.clients.remotes.registry_auth import Login
from conch.clients.remotes.web import PassingError, answered, ask, check, new_session, told
from conch.clients.source_errors import ChecksumMismatchError, SourceUnavailableError
from conch.provisioning.uris import DOCKER_HUB, read_image

_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_NAMES = ("org.opencontainers.image.title", "org.cncf.model.filepath")
_UNPACK = "io.deis.oras.content.unpack"
_ARCHIVES = (".tar", ".tar+gzip", ".tar.gzip")
_UNREADABLE = ("zstd", "encrypted")
_MANIFEST_LIMIT = 4 << 20
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class Artifact:
    """What a tag or digest of a repository stands for."""

    def __init__(self, place: Place) -> None:
        self.uri, self.wanted = place.uri, read_image(place.uri)
        registry = self.wanted.registry
        default = f"https://{'registry-1.docker.io' if registry == DOCKER_HUB else registry}"
        server = urlsplit(place.endpoint or default)
        # A mirror of many registries tells them apart by a path before the repository.
        path = f"{server.path.rstrip('/')}/{self.wanted.repository}"
        self.base = f"{server.scheme}://{server.netloc}/v2{path}"
        self.session = new_session(place)
        self.login = Login(place, registry, self.wanted.repository)

    def listing(self) -> Listing:
        """Read the manifest, of this machine's platform where there are several."""
        manifest, digest = self._manifest(self.wanted.reference)
        if manifest.get("mediaType") in _INDEXES or "manifests" in manifest:
            manifest, digest = self._manifest(self._chosen(manifest["manifests"]))
        layers = [row for row in manifest.get("layers", ()) if row.get("size")]
        if not layers:
            raise SourceUnavailableError(f"{self.uri}: the artifact holds no layer")
        files = tuple(self._files(layers))
        unpack = frozenset(f.path for f, row in zip(files, layers, strict=True) if _is_archive(row))
        return Listing(
            files, is_file=len(files) == 1 and not unpack, identity=digest, unpack=unpack
        )

    def _files(self, layers: list[dict[str, Any]]) -> Iterator[RemoteFile]:
        for number, row in enumerate(layers):
            digest, kind = str(row["digest"]), str(row.get("mediaType", ""))
            if any(word in kind for word in _UNREADABLE):
                raise SourceUnavailableError(
                    f"{self.uri}: layer {number + 1} is {kind}, which Conch can't read: "
                    "push it as tar or tar+gzip"
                )
            algorithm, _, value = digest.partition(":")
            name = (
                f".layer-{number}"
                if _is_archive(row)
                else safe(_name(row) or digest.replace(":", "-"))
            )
            yield RemoteFile(name, digest, int(row["size"]), digest, Checksum(algorithm, value))

    def _chosen(self, rows: list[dict[str, Any]]) -> str:
        """Return the digest of the manifest for this machine, or of the only one."""
        machine = _MACHINES.get(platform.machine(), platform.machine())
        right = [
            row
            for row in rows
            if row.get("platform", {}).get("os") == "linux"
            and row["platform"].get("architecture") == machine
        ]
        if not right and len(rows) != 1:
            raise SourceUnavailableError(f"{self.uri}: has no manifest for linux/{machine}")
        return str((right or rows)[0]["digest"])

    def _manifest(self, reference: str) -> tuple[dict[str, Any], str]:
        accept = {"Accept": ", ".join((*_MANIFESTS, *_INDEXES))}
        with self._ask(f"/manifests/{reference}", accept) as response:
            check(response, uri=self.uri, refused=self.refused)
            text: bytes = response.raw.read(_MANIFEST_LIMIT, decode_content=True)
        found = f"sha256:{hashlib.sha256(text).hexdigest()}"
        if reference.startswith("sha256:") and found != reference:
            raise ChecksumMismatchError(f"{self.uri}: wanted manifest {reference}, got {found}")
        try:
            manifest: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise PassingError("the registry sent a manifest that is cut or is none") from error
        return manifest, found

    def _ask(self, path: str, headers: Mapping[str, str]) -> requests.Response:
        """Ask the registry; log in as it demands, once for each token that runs out."""
        url, auth = self.base + path, self.login.header()
        response = ask(self.session, "GET", url, headers={**headers, **auth}, uri=self.uri)
        if response.status_code != HTTPStatus.UNAUTHORIZED:
            return response
        response.close()
        auth = self.login.answer(self.session, response.headers.get("WWW-Authenticate", ""), auth)
        return ask(self.session, "GET", url, headers={**headers, **auth}, uri=self.uri)

    def get(self, file: RemoteFile, headers: Mapping[str, str]) -> requests.Response:
        """Ask for a blob, or a part of it."""
        return self._ask(f"/blobs/{file.key}", headers)

    def checksum(self, file: RemoteFile) -> Checksum | None:
        """Return its digest."""
        return file.checksum

    def refused(self, response: requests.Response) -> str:
        """Return what the answer means."""
        try:
            error = json.loads(told(response))["errors"][0]
            said = f"{error.get('message') or ''} ({error['code']})".strip()
        except (ValueError, KeyError, TypeError, IndexError):
            said = answered(response)
        if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            given = self.login.given
            hint = (
                "these credentials may not pull it" if given else "it wants credentials (secretRef)"
            )
            return f"{hint}: {said}"
        return said


def _name(row: Mapping[str, Any]) -> str | None:
    annotations = row.get("annotations") or {}
    return next((str(annotations[key]) for key in _NAMES if annotations.get(key)), None)


def _is_archive(row: Mapping[str, Any]) -> bool:
    """Return whether a layer is unpacked: a named one only if it says so."""
    annotations = row.get("annotations") or {}
    if _NAMES[0] in annotations:
        return str(annotations.get(_UNPACK, "")).lower() == "true"
    return str(row.get("mediaType", "")).endswith(_ARCHIVES)
