"""``gs://``: objects of Google Cloud Storage, over its JSON API.

google-auth finds the credentials: a key or a federation's configuration in a Secret, else what the
machine offers (workload identity, the metadata server), else none, for public buckets.
"""

import base64
import json
import os
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import google.auth
import requests
from google.auth import exceptions
from google.auth.transport.requests import AuthorizedSession

from conch.clients.remotes.base import Checksum, Listing, Place, RemoteFile, identity_of, safe
from conch.clients.remotes.web import (
    AUTHORITY,
    PassingError,
    answered,
    ask,
    check,
    lacking,
    new_session,
    prepare,
    secret_keys,
    secret_value,
    told,
)
from conch.clients.source_errors import SourceChangedError, SourceUnavailableError
from conch.provisioning.uris import read_objects

_API = "https://storage.googleapis.com"
_SCOPES = ["https://www.googleapis.com/auth/devstorage.read_only"]
_KEYS = ("service-account.json", "GOOGLE_APPLICATION_CREDENTIALS", "key.json", "credentials.json")
_EMULATOR = "STORAGE_EMULATOR_HOST"
_FIELDS = "name,size,generation,md5Hash,crc32c,contentEncoding"


class GoogleObjects:
    """An object, or those below a path."""

    def __init__(self, place: Place) -> None:
        self.uri, self.wanted = place.uri, read_objects(place.uri)
        self.endpoint = _endpoint(place)
        self.session = _session(place)
        self.objects = f"{self.endpoint}/storage/v1/b/{quote(self.wanted.bucket, safe='')}/o"

    def listing(self) -> Listing:
        """Ask for an object of this name, then for those below it."""
        files = [] if self.wanted.folder else self._single()
        single = bool(files)
        files = files or [self._file(row) for row in self._below()]
        if not files:
            raise SourceUnavailableError(f"{self.uri}: there is nothing at this path of the bucket")
        where = f"{self.objects}/{self.wanted.path}"
        return Listing(tuple(files), is_file=single, identity=identity_of(files, where=where))

    def _single(self) -> list[RemoteFile]:
        """Return the object; none where there is none, or only a list could tell."""
        with self._ask(self._url(self.wanted.path), {"fields": _FIELDS}) as response:
            if response.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
                return []
            check(response, uri=self.uri, refused=self.refused)
            return [self._file(response.json(), name=self.wanted.path.rpartition("/")[2])]

    def _below(self) -> Iterator[dict[str, Any]]:
        words = {"fields": f"items({_FIELDS}),nextPageToken"}
        words["prefix"] = f"{self.wanted.path}/" if self.wanted.path else ""
        while True:
            with self._ask(self.objects, words) as response:
                check(response, uri=self.uri, refused=self._bucket_refused)
                page = response.json()
            yield from (r for r in page.get("items", ()) if not r["name"].endswith("/"))
            if not page.get("nextPageToken"):
                return
            words["pageToken"] = page["nextPageToken"]

    def _file(self, row: Mapping[str, Any], name: str | None = None) -> RemoteFile:
        if row.get("contentEncoding") == "gzip":
            raise SourceUnavailableError(
                f"{self.uri}: {row['name']} is stored packed (Content-Encoding: gzip), so its size "
                "and checksum are not those of the file: upload it without -z or -Z"
            )
        path = name or row["name"].removeprefix(self.wanted.path).removeprefix("/")
        return RemoteFile(
            safe(path), row["name"], int(row["size"]), row.get("generation"), _checksum(row)
        )

    def _url(self, key: str) -> str:
        return f"{self.objects}/{quote(key, safe='')}"

    def _ask(
        self, url: str, words: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        try:
            return ask(self.session, "GET", url, headers=headers, uri=self.uri, params=dict(words))
        except exceptions.TransportError as error:
            raise PassingError(f"no token for Google: {error}") from error
        except exceptions.GoogleAuthError as error:
            if error.retryable:
                raise PassingError(f"no token for Google: {_first(error)}") from error
            raise SourceUnavailableError(
                f"{self.uri}: the credentials are refused: {_first(error)}"
            ) from error

    def get(self, file: RemoteFile, headers: Mapping[str, str]) -> requests.Response:
        """Ask for an object, or a part of it, in the generation that was listed."""
        words = {"alt": "media", **({"generation": file.version} if file.version else {})}
        response = self._ask(self._url(file.key), words, headers)
        if response.status_code == HTTPStatus.NOT_FOUND:
            response.close()
            raise SourceChangedError(f"{self.uri}: {file.key} was changed or removed meanwhile")
        return response

    def checksum(self, file: RemoteFile) -> Checksum | None:
        """Return the one that was listed."""
        return file.checksum

    def refused(self, response: requests.Response) -> str:
        """Return what the answer means."""
        try:
            message = str(json.loads(told(response))["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = ""
        words = {
            HTTPStatus.UNAUTHORIZED: "these credentials are refused, or none were given",
            HTTPStatus.FORBIDDEN: "access denied: these credentials may not read it",
        }.get(HTTPStatus(response.status_code))
        return f"{words or answered(response)}{f': {message}' if message else ''}"

    def _bucket_refused(self, response: requests.Response) -> str:
        if response.status_code == HTTPStatus.NOT_FOUND:
            return "there is no such bucket"
        return self.refused(response)


def _endpoint(place: Place) -> str:
    said = secret_value(place, _EMULATOR) or os.environ.get(_EMULATOR) or place.endpoint or _API
    return (said if "://" in said else f"http://{said}").rstrip("/")


def _session(place: Place) -> requests.Session:
    credentials = _credentials(place)
    if credentials is None:
        return new_session(place)
    session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    prepare(session, place)
    return session


def _credentials(place: Place) -> Any:
    """Return what the Secret holds, else what the machine has; None where that is nothing."""
    text = secret_value(place, *_KEYS)
    if text is not None:
        return _of_secret(place, text)
    if place.credentials and not secret_keys(place) & {_EMULATOR, AUTHORITY}:
        lacking(place, f"key {_KEYS[0]}")
    if secret_value(place, _EMULATOR) or os.environ.get(_EMULATOR):
        return None
    try:
        return google.auth.default(scopes=_SCOPES)[0]
    except exceptions.DefaultCredentialsError:
        return None


def _of_secret(place: Place, text: str) -> Any:
    try:
        return _loaded(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, exceptions.GoogleAuthError) as error:
        name = place.secret_name or "of secretRef"
        raise SourceUnavailableError(
            f"{place.uri}: the key {_KEYS[0]} of the Secret {name} is no Google credential: "
            f"{type(error).__name__}"
        ) from error


def _loaded(info: dict[str, Any]) -> Any:
    """Return the credentials that a file describes; those that would run a program are refused."""
    # ruff: noqa: PLC0415
    match info["type"]:
        case "service_account":
            from google.oauth2 import service_account

            make: Any = service_account.Credentials.from_service_account_info
        case "authorized_user":
            from google.oauth2 import credentials

            make = credentials.Credentials.from_authorized_user_info
        case "external_account" if "executable" not in info.get("credential_source", {}):
            from google.auth import identity_pool

            make = identity_pool.Credentials.from_info
        case other:
            raise ValueError(other)
    return make(info, scopes=_SCOPES)


def _checksum(row: Mapping[str, Any]) -> Checksum | None:
    for algorithm, key in (("md5", "md5Hash"), ("crc32c", "crc32c")):
        if row.get(key):
            return Checksum(algorithm, base64.b64decode(row[key]).hex())
    return None


def _first(error: Exception) -> str:
    return str(error.args[0] if error.args else type(error).__name__)[:300]
