"""Downloading one file over HTTP: bounded attempts, and on from where the last one broke off."""

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import requests

from conch.clients.source_errors import SourceUnavailableError

ATTEMPTS = 5
BACKOFF_SECONDS = 1.0
"""The pause after the first attempt; each later one is twice as long."""
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
_CHUNK = 1 << 20
_PASSING = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
)


class _PassingError(Exception):
    """A fault that the next attempt may not meet."""


def public(uri: str) -> str:
    """Return a URI without what may be secret: user, password and query (signatures)."""
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def authorization(credentials: Path | None) -> requests.auth.AuthBase | Mapping[str, str] | None:
    """Return what a Secret's files (token, or username and password) mean as a header.

    Raises SourceUnavailableError where there are neither.
    """
    if credentials is None:
        return None
    values = {p.name: p.read_text().strip() for p in credentials.glob("[!.]*") if p.is_file()}
    if "token" in values:
        return {"Authorization": f"Bearer {values['token']}"}
    if "username" in values and "password" in values:
        return requests.auth.HTTPBasicAuth(values["username"], values["password"])
    raise SourceUnavailableError(
        "the Secret of secretRef is missing or has neither the key token "
        "nor the keys username and password"
    )


def download(
    uri: str,
    target: Path,
    *,
    credentials: Path | None = None,
    attempts: int = ATTEMPTS,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Write what ``uri`` answers to ``target``. Raises SourceUnavailableError in the end."""
    target.unlink(missing_ok=True)
    with requests.Session() as session:
        authorize(session, authorization(credentials))
        transfer = _Transfer(session, uri, target)
        for attempt in range(1, attempts + 1):
            try:
                transfer.attempt()
            except _PassingError as error:
                if attempt == attempts:
                    raise SourceUnavailableError(
                        f"{public(uri)}: {error} ({attempts} attempts)"
                    ) from error
                pause(BACKOFF_SECONDS * 2 ** (attempt - 1))
            else:
                return


def authorize(
    session: requests.Session, how: requests.auth.AuthBase | Mapping[str, str] | None
) -> None:
    """Give the session its credentials; requests drops them where it is sent to another host."""
    if isinstance(how, requests.auth.AuthBase):
        session.auth = how
    elif how:
        session.headers.update(how)


class _Transfer:
    """One file on its way: how much is here, and of which version of it."""

    def __init__(self, session: requests.Session, uri: str, target: Path) -> None:
        self.session = session
        self.uri = uri
        self.target = target
        self.version: str | None = None

    def attempt(self) -> None:
        """Fetch the rest of the file. Raises _PassingError or SourceUnavailableError."""
        try:
            with self.session.get(
                self.uri,
                headers=self._headers(),
                stream=True,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
            ) as response:
                self._check(response)
                self._write(response)
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            raise _PassingError(_cause(error)) from error
        except requests.RequestException as error:
            raise SourceUnavailableError(f"{public(self.uri)}: {_cause(error)}") from error

    def _headers(self) -> dict[str, str]:
        """Ask for the rest where the server said which version it began to send."""
        plain = {"Accept-Encoding": "identity"}
        if self.version and self._have():
            return {**plain, "Range": f"bytes={self._have()}-", "If-Range": self.version}
        return plain

    def _have(self) -> int:
        return self.target.stat().st_size if self.target.exists() else 0

    def _check(self, response: requests.Response) -> None:
        if response.ok:
            return
        said = f"the server answered {response.status_code} {response.reason}"
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self.version = None
        if response.status_code in _PASSING or response.status_code >= 500:
            raise _PassingError(said)
        raise SourceUnavailableError(f"{public(self.uri)}: {said}")

    def _write(self, response: requests.Response) -> None:
        rest = response.status_code == HTTPStatus.PARTIAL_CONTENT
        if rest and not self._continues(response):
            self.version = None
            raise _PassingError("the server sent another part of the file than asked for")
        self.version = _version(response)
        with self.target.open("ab" if rest else "wb") as out:
            for chunk in response.iter_content(_CHUNK):
                out.write(chunk)

    def _continues(self, response: requests.Response) -> bool:
        return response.headers.get("Content-Range", "").startswith(f"bytes {self._have()}-")


def _version(response: requests.Response) -> str | None:
    """Return what names the version of the file: a strong ETag, else its time."""
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


def _cause(error: Exception) -> str:
    """Return the innermost fault in few words, without addresses of objects."""
    inner = error.args[0] if error.args else error
    inner = getattr(inner, "reason", None) or inner
    return str(inner).rpartition(">: ")[2] or type(error).__name__
