"""``s3://``: objects of Amazon S3 and of servers that speak its protocol.

obstore finds the credentials, signs and lists; the bytes come by signed URLs, as all others do.
"""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import obstore
import requests
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from conch.clients.remotes.base import Checksum, Listing, Place, RemoteFile, identity_of, safe
from conch.clients.remotes.web import (
    AUTHORITY,
    PassingError,
    answered,
    ask,
    cause,
    check,
    lacking,
    new_session,
    secret_value,
    told,
)
from conch.clients.source_errors import SourceUnavailableError
from conch.provisioning.uris import read_objects

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

_SIGNED_FOR = timedelta(hours=1)
_PATIENT = {"connect_timeout": "10s", "timeout": "60s"}
_HASTY = {"connect_timeout": "2s", "timeout": "5s"}
"""For the machine's own service of credentials, which answers at once or is not there."""
_ANYWHERE = "https://s3.amazonaws.com"
_KEYS = {
    "access_key_id": ("AWS_ACCESS_KEY_ID",),
    "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "session_token": ("AWS_SESSION_TOKEN",),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "endpoint_url_sts": ("AWS_ENDPOINT_URL_STS", "AWS_STS_ENDPOINT"),
    "role_arn": ("AWS_ROLE_ARN",),
    "request_payer": ("AWS_REQUEST_PAYER",),
    "virtual_hosted_style_request": ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST",),
}
"""What the library calls it, and the names that Secrets and environments give it."""
_MD5 = re.compile(r"[0-9a-f]{32}")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_FINAL = (FileNotFoundError, PermissionDeniedError, UnauthenticatedError)
_STATUS = re.compile(r"status code:? (\d{3})")
_SAID = {
    "InvalidAccessKeyId": "the server does not know the access key",
    "SignatureDoesNotMatch": "the secret access key is not that of the access key",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "AccessDenied": "access denied: these credentials may not read it, or none were given",
    "NoSuchBucket": "there is no such bucket",
}


class S3Objects:
    """An object, or those below a path."""

    def __init__(self, place: Place) -> None:
        self.uri, self.wanted = place.uri, read_objects(place.uri)
        self.session = new_session(place)
        self.config = _config(place)
        self.endpoint = str(self.config.get("endpoint", ""))
        if not self.endpoint and "region" not in self.config:
            self.config["region"] = self._region()
        self.store, self.anonymous = _opened(place, self.wanted.bucket, self.config)
        self.plain: dict[str, bool] = {}

    def listing(self) -> Listing:
        """Ask for an object of this name, then for those below it."""
        files = [] if self.wanted.folder else self._single()
        single = bool(files)
        files = files or self._below()
        if not files:
            raise SourceUnavailableError(f"{self.uri}: there is nothing at this path of the bucket")
        where = f"{self.endpoint}/{self.wanted.bucket}/{self.wanted.path}"
        return Listing(tuple(files), is_file=single, identity=identity_of(files, where=where))

    def _single(self) -> list[RemoteFile]:
        """Return the object; none where there is none, or only a list could tell."""
        key = self.wanted.path
        with self._ask("HEAD", key, {}) as response:
            if response.status_code in (403, 404):
                return []
            check(response, uri=self.uri, refused=self.refused)
            self._note(key, response)
            size = int(response.headers.get("Content-Length", 0))
            return [RemoteFile(key.rpartition("/")[2], key, size, response.headers.get("ETag"))]

    def _below(self) -> list[RemoteFile]:
        prefix = f"{self.wanted.path}/" if self.wanted.path else ""
        try:
            rows = [row for chunk in obstore.list(self.store, prefix or None) for row in chunk]
        except (BaseError, OSError) as error:
            raise self._fault(error) from error
        folders = {parent for row in rows for parent in _parents(row["path"])}
        return [
            RemoteFile(
                safe(row["path"].removeprefix(prefix)), row["path"], row["size"], row["e_tag"]
            )
            for row in rows
            # An empty object may stand for a folder, as consoles make them.
            if row["size"] or row["path"] not in folders
        ]

    def get(self, file: RemoteFile, headers: Mapping[str, str]) -> requests.Response:
        """Ask for an object, or a part of it, in the version that was listed."""
        same = {"If-Match": file.version} if file.version else {}
        response = self._ask("GET", file.key, {**headers, **same})
        self._note(file.key, response)
        return response

    def _ask(self, method: Any, key: str, headers: Mapping[str, str]) -> requests.Response:
        # A region that was guessed wrong is not followed to: the signature would not hold there.
        return ask(
            self.session,
            method,
            self._signed(method, key),
            headers=headers,
            uri=self.uri,
            allow_redirects=False,
        )

    def _signed(self, method: Any, key: str) -> str:
        if self.anonymous:
            base = self.endpoint or f"https://s3.{self.config['region']}.amazonaws.com"
            return f"{base}/{self.wanted.bucket}/{quote(key)}"
        try:
            return obstore.sign(self.store, method, key, _SIGNED_FOR)
        except (BaseError, OSError) as error:
            raise self._fault(error) from error

    def _note(self, key: str, response: requests.Response) -> None:
        """Keep whether the ETag of an object may be its MD5, which encryption with keys changes."""
        how = response.headers.get("x-amz-server-side-encryption", "AES256")
        customers = "x-amz-server-side-encryption-customer-algorithm" in response.headers
        self.plain[key] = how == "AES256" and not customers

    def checksum(self, file: RemoteFile) -> Checksum | None:
        """Return the MD5 that an ETag is, unless the object came in parts or is encrypted by key."""
        value = (file.version or "").strip('"')
        if not _MD5.fullmatch(value):
            return None
        if file.key not in self.plain:
            with self._ask("HEAD", file.key, {}) as response:
                self._note(file.key, response)
        return Checksum("md5", value) if self.plain[file.key] else None

    def refused(self, response: requests.Response) -> str:
        """Return what the answer means."""
        region = response.headers.get("x-amz-bucket-region")
        moved = response.status_code < HTTPStatus.BAD_REQUEST
        if moved or (response.status_code == HTTPStatus.BAD_REQUEST and region):
            return f"the bucket is in the region {region or 'of another name'}: set AWS_REGION"
        if response.request.method == "HEAD" and response.status_code == HTTPStatus.FORBIDDEN:
            return _SAID["AccessDenied"]
        return _words(told(response)) or answered(response)

    def _fault(self, error: Exception) -> Exception:
        """Return the error of the library as ours: it tells some faults apart only in its text."""
        text = str(error)
        words, status = _words(text), _STATUS.search(text)
        if isinstance(error, FileNotFoundError):
            words = words or _SAID["NoSuchBucket"]
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            words = words or _SAID["AccessDenied"]
        passing = status is None or status[1][0] == "5" or status[1] in ("408", "429")
        if passing and not isinstance(error, _FINAL):
            return PassingError(words or _shortened(text))
        return SourceUnavailableError(f"{self.uri}: {words or _shortened(text)}")

    def _region(self) -> str:
        """Return the bucket's region, which Amazon tells anyone; its own default where it does not."""
        try:
            answer = self.session.head(
                f"{_ANYWHERE}/{self.wanted.bucket}", timeout=(5, 10), allow_redirects=False
            )
        except requests.RequestException as error:
            raise PassingError(cause(error)) from error
        return answer.headers.get("x-amz-bucket-region") or "us-east-1"


def _config(place: Place) -> dict[str, Any]:
    """Return what the Secret says, else the environment, else the installation."""
    found: dict[str, Any] = {}
    for name, keys in _KEYS.items():
        value = secret_value(place, *keys) or next(
            (os.environ[k] for k in keys if os.environ.get(k)), None
        )
        if value:
            found[name] = value
    if place.endpoint:
        found.setdefault("endpoint", place.endpoint)
    if place.credentials:
        _require_keys(place)
    if place.token:
        found["web_identity_token_file"] = str(place.token)
    if "endpoint" in found:
        found["endpoint"] = found["endpoint"].rstrip("/")
        found.setdefault("region", "us-east-1")
    return found


def _require_keys(place: Place) -> None:
    """Refuse a Secret that holds half of the credentials, or nothing of use."""
    pair = [secret_value(place, k) for k in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    other = secret_value(
        place, "AWS_ROLE_ARN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", AUTHORITY
    )
    if not all(pair) and (any(pair) or not other):
        lacking(place, "keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")


def _store(
    place: Place, bucket: str, config: dict[str, Any], limits: Mapping[str, str] = _PATIENT
) -> S3Store:
    client = cast("ClientConfig", {**limits, "allow_http": True})
    authority = place.credentials and place.credentials / AUTHORITY
    if authority and authority.exists():
        client["root_certificate"] = authority.read_bytes()
    # Attempts are counted and bounded here, not there.
    return S3Store(
        bucket,
        config=cast("S3Config", config),
        client_options=client,
        retry_config={"max_retries": 0},
    )


def _opened(place: Place, bucket: str, config: dict[str, Any]) -> tuple[S3Store, bool]:
    """Return a store, and whether it goes without credentials since none are to be had.

    That is for public buckets. Asking for a signature asks the machine for credentials.
    """
    store = _store(place, bucket, config)
    if "access_key_id" in config or "role_arn" in config:
        return store, False
    try:
        obstore.sign(_store(place, bucket, config, _HASTY), "HEAD", "any", _SIGNED_FOR)
    except (BaseError, OSError):
        return _store(place, bucket, {**config, "skip_signature": True}), True
    return store, False


def _words(text: str) -> str | None:
    """Return what an answer in the protocol's XML says; None where it is none."""
    code, message = _CODE.search(text), _MESSAGE.search(text)
    if code is None:
        return None
    return f"{_SAID.get(code[1]) or (message[1] if message else 'refused')} ({code[1]})"


def _parents(path: str) -> list[str]:
    """Return the folders that a path lies in."""
    return [str(parent) for parent in PurePosixPath(path).parents][:-1]


def _shortened(text: str) -> str:
    """Return the cause that ends the library's chain of causes, without its own debugging lines."""
    first = text.partition("\n\nDebug source")[0]
    return " ".join(first.replace("Generic S3 error: ", "").split())[:400]
