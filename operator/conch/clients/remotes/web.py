"""HTTP as all protocols speak it: answers that pass, answers that are final, and how long to wait."""

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import requests
import urllib3
from requests.adapters import HTTPAdapter

from conch.clients.remotes.base import Place
from conch.clients.source_errors import SourceUnavailableError, SourceUnreachableError

T = TypeVar("T")
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
AUTHORITY = "ca.crt"
"""The key of a Secret that holds the authority of the server's certificate."""
_CONNECTIONS = 32
_TOLD = 4096
_SERVERS_FAULT = HTTPStatus.INTERNAL_SERVER_ERROR
_ADDRESS = re.compile(r"https?://[^\s'\"]+|(?<=with url: )[^\s'\"]+")
_PASSING = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
)
BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
"""What a cut connection raises, where the library knows of it."""
CUT = (urllib3.exceptions.HTTPError, OSError)
"""What it raises while a body is read."""


class PassingError(Exception):
    """A fault that the next attempt may not meet; ``wait`` is what the server asked for, in seconds."""

    def __init__(self, said: str, *, wait: float = 0.0) -> None:
        super().__init__(said)
        self.wait = wait


@dataclass(frozen=True)
class Patience:
    """How long a fault is borne, in seconds: ``limit`` since the last byte that came."""

    limit: float = 120.0
    first_pause: float = 1.0
    longest_pause: float = 30.0
    spread: Callable[[], float] = random.random
    """Of 0 to 1: replicas that start together do not ask again together."""
    clock: Callable[[], float] = time.monotonic

    def pause(self, attempt: int) -> float:
        """Return how long to wait after so many attempts without a byte."""
        longest: float = min(self.first_pause * 2 ** (attempt - 1), self.longest_pause)
        return longest * (0.5 + 0.5 * self.spread())


def patiently(
    attempt: Callable[[], T],
    *,
    uri: str,
    patience: Patience,
    progress: Callable[[], int] = lambda: 0,
    say: Callable[[str], object] = str,
    wait: Callable[[float], object] = time.sleep,
) -> T:
    """Return what ``attempt`` does, tried again after each PassingError.

    What ``progress`` returns grows with what came; each growth renews the patience. Raises
    SourceUnreachableError where it ends.
    """
    best, since, fruitless = progress(), patience.clock(), 0
    while True:
        try:
            return attempt()
        except PassingError as error:
            fruitless += 1
            if progress() > best:
                best, since, fruitless = progress(), patience.clock(), 1
            pause = max(error.wait, patience.pause(fruitless))
            waited = patience.clock() - since
            if waited + pause > patience.limit:
                raise SourceUnreachableError(
                    f"{uri}: {error} ({fruitless} attempts in {waited:.0f} s{_asked(error.wait)})"
                ) from error
            say(f"{uri}: {error}; again in {pause:.0f} s")
            wait(pause)


def _asked(wait: float) -> str:
    return f", and the server asks to wait for {wait:.0f} s more" if wait else ""


def new_session(place: Place) -> requests.Session:
    """Return a session for many threads that trusts the authority of the Secret, if it has one."""
    session = requests.Session()
    prepare(session, place)
    return session


def prepare(session: requests.Session, place: Place) -> None:
    """Have a session keep a connection for each thread, and trust the Secret's authority."""
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
    authority = place.credentials and place.credentials / AUTHORITY
    if authority and authority.exists():
        session.verify = str(authority)


def ask(
    session: requests.Session,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    uri: str,
    **more: Any,
) -> requests.Response:
    """Return the answer, whatever its status; its body streams. ``uri`` is for messages.

    Raises PassingError or SourceUnavailableError where there is none.
    """
    try:
        return session.request(
            method,
            url,
            headers={"Accept-Encoding": "identity", **(headers or {})},
            stream=True,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            # Else REQUESTS_CA_BUNDLE would go before what the session was told.
            verify=session.verify,
            **more,
        )
    except requests.exceptions.SSLError as error:
        raise SourceUnavailableError(f"{uri}: {cause(error)}") from error
    except BROKEN as error:
        raise PassingError(cause(error)) from error
    except requests.RequestException as error:
        raise SourceUnavailableError(f"{uri}: {cause(error)}") from error


def check(
    response: requests.Response, *, uri: str, refused: Callable[[requests.Response], str]
) -> requests.Response:
    """Return an answer that is a success.

    Raises PassingError where it is worth to ask again, else SourceUnavailableError in the words
    of ``refused``.
    """
    if response.status_code < HTTPStatus.MULTIPLE_CHOICES:
        return response
    try:
        if response.status_code in _PASSING or response.status_code >= _SERVERS_FAULT:
            raise PassingError(answered(response), wait=retry_after(response))
        raise SourceUnavailableError(f"{uri}: {refused(response)}")
    finally:
        response.close()


def answered(response: requests.Response) -> str:
    """Return the plain words for an answer."""
    return f"the server answered {response.status_code} {response.reason}".rstrip()


def told(response: requests.Response) -> str:
    """Return the beginning of an answer's text; empty where it can't be read."""
    try:
        text: bytes = response.raw.read(_TOLD, decode_content=True)
        return text.decode(errors="replace")
    except CUT:
        return ""


def retry_after(response: requests.Response) -> float:
    """Return the seconds that the server asks to wait for; 0 where it does not, or gives a date."""
    said = response.headers.get("Retry-After", "")
    return float(said) if said.isdigit() else 0.0


def cause(error: BaseException) -> str:
    """Return the innermost fault in few words, without addresses of objects and without URLs.

    Those may hold passwords and signatures.
    """
    inner = error.args[0] if error.args else error
    inner = getattr(inner, "reason", None) or inner
    said = str(inner).rpartition(">: ")[2] or type(error).__name__
    return _ADDRESS.sub("the URL", said)


def secret_value(place: Place, *keys: str) -> str | None:
    """Return what the first of these keys of the Secret holds, or None where it has none."""
    for key in keys:
        path = place.credentials and place.credentials / key
        if path and path.is_file():
            return path.read_text().strip()
    return None


def secret_keys(place: Place) -> set[str]:
    """Return the keys of the Secret; none where it is missing."""
    folder = place.credentials
    if folder is None or not folder.is_dir():
        return set()
    return {p.name for p in folder.glob("*") if p.is_file() and not p.name.startswith("..")}


def lacking(place: Place, wanted: str) -> NoReturn:
    """Raise SourceUnavailableError: the Secret is not there, or lacks the keys ``wanted``."""
    name = f"the Secret {place.secret_name!r}" if place.secret_name else "the Secret of secretRef"
    what = (
        "has no" if secret_keys(place) else "does not exist in the service's namespace, or has no"
    )
    raise SourceUnavailableError(f"{name} {what} {wanted}")


def text_of(path: Path) -> str:
    """Return a small file's text, without blanks around it."""
    return path.read_text().strip()
