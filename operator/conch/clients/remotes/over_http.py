"""``http://`` and ``https://``: one file of a server, by its URL."""

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

import requests

from conch.clients.remotes.base import Checksum, Listing, Place, RemoteFile, identity_of, public
from conch.clients.remotes.web import (
    AUTHORITY,
    answered,
    ask,
    check,
    lacking,
    new_session,
    secret_keys,
    secret_value,
)
from conch.clients.source_errors import SourceChangedError

_FALLBACK_NAME = "download"


class HttpFile:
    """A file behind a URL, asked for with a Secret's token or password where there is one."""

    def __init__(self, place: Place) -> None:
        self.uri = place.uri
        self.shown = public(place.uri)
        self.session = new_session(place)
        if place.credentials:
            _authorize(self.session, place)

    def listing(self) -> Listing:
        """Ask for the first byte: that tells size and version, also where a URL is signed for GET."""
        name = PurePosixPath(unquote(urlsplit(self.uri).path)).name or _FALLBACK_NAME
        size, version = self._probe()
        file = RemoteFile(name, key=self.uri, size=size, version=version)
        return Listing((file,), is_file=True, identity=identity_of([file], where=self.uri))

    def _probe(self) -> tuple[int | None, str | None]:
        with ask(
            self.session, "GET", self.uri, headers={"Range": "bytes=0-0"}, uri=self.shown
        ) as r:
            if r.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                check(r, uri=self.shown, refused=self.refused)
            return _size(r), _version(r)

    def get(self, file: RemoteFile, headers: Mapping[str, str]) -> requests.Response:
        """Ask for the file, or a part of it. Raises SourceChangedError where it is another one now."""
        same = {"If-Range": file.version} if file.version and "Range" in headers else {}
        answer = ask(self.session, "GET", self.uri, headers={**headers, **same}, uri=self.shown)
        if answer.ok and _version(answer) != file.version:
            answer.close()
            raise SourceChangedError(f"{self.shown}: was changed meanwhile")
        return answer

    def refused(self, response: requests.Response) -> str:
        """Return what the answer means."""
        return answered(response)

    def checksum(self, file: RemoteFile) -> Checksum | None:
        """Return nothing: the protocol has none that servers agree on."""
        return file.checksum


def _authorize(session: requests.Session, place: Place) -> None:
    """Give the session its credentials; requests drops them where it is sent to another host."""
    token = secret_value(place, "token")
    user, password = secret_value(place, "username"), secret_value(place, "password")
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    elif user is not None and password is not None:
        session.auth = (user, password)
    elif secret_keys(place) != {AUTHORITY}:
        lacking(place, "key token, nor the keys username and password")


def _size(response: requests.Response) -> int | None:
    """Return the size of the whole file, None where the server does not say or packs it."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    said = response.headers.get("Content-Range", "").rpartition("/")[2]
    if response.status_code == HTTPStatus.OK:
        said = response.headers.get("Content-Length", "")
    return int(said) if said.isdigit() else None


def _version(response: requests.Response) -> str | None:
    """Return what names the version of the file: a strong ETag, else its time."""
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")
