"""What one replica of the front door reports: who waits, what is under way, who does not answer.

Its agent answers GET /report as a long poll: at once where its version is another than the one that
is given, else when something changes. Each answer is the whole report. Bounded in time and size, and
what makes no sense is no report: it must move nothing.
"""

import ipaddress
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import aiohttp

from conch.api.names import PORT_FRONT_DOOR_AGENT
from conch.decisions.canary import Tally
from conch.decisions.fleet import ServiceKey

K = TypeVar("K")
T = TypeVar("T")

NEVER = -1
"""Stands for the version of a report that nobody has yet."""
SLACK_S = 3.0
"""Seconds beyond the wait that was asked for, until there is an answer."""
MOST_BYTES = 4 * 2**20
"""Of a report; 2,000 services and as many replicas make a tenth of it."""
_MOST = 10**9
"""No number of requests comes near."""
_LONGEST = 10 * 365 * 86_400.0
_WORDS = 300
"""Letters of a reason that are kept."""


class ReportUnavailable(Exception):  # noqa: N818 - a state of the world, as users read it
    """A replica of the front door gave no report; the message says why, for people."""


@dataclass(frozen=True)
class Report:
    """What one replica of the front door knows."""

    version: int
    asked: Mapping[ServiceKey, float] = field(default_factory=dict)
    """Seconds since a request last had to wait because no replica answers."""
    waiting: Mapping[ServiceKey, int] = field(default_factory=dict)
    """Requests that wait so now."""
    in_flight: Mapping[str, int] = field(default_factory=dict)
    """Requests under way to each pod that leaves, by UID; one that is missing is not known yet."""
    broken: Mapping[str, str] = field(default_factory=dict)
    """By UID, pods that take requests and answer none, and how that showed."""
    canaries: Mapping[ServiceKey, Mapping[str, Tally]] = field(default_factory=dict)
    """By service and revision, what requests came to since the service has its canary, or the agent
    began: both revisions, as soon as the agent knows of them."""


class ReportSource(Protocol):
    """Where reports come from."""

    async def report(self, address: str, *, after: int, wait: float) -> Report:
        """Return the report of the replica at an IP address once it is another than ``after``.

        ``after`` is a version or ``NEVER``; the same report comes after ``wait`` seconds. Raises
        ReportUnavailable.
        """
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...


def report_of(body: object) -> Report:
    """Return the report that JSON says. Raises ValueError where it makes no sense."""
    if not isinstance(body, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - of text that came from outside
    return Report(
        version=_count(body.get("version")),
        asked=_entries(body, "asked", _service, _seconds),
        waiting=_entries(body, "waiting", _service, _count),
        in_flight=_entries(body, "in_flight", _uid, _count),
        broken=_entries(body, "broken", _uid, _words),
        canaries=_entries(body, "canaries", _service, _tallies),
    )


def _entries(
    body: Mapping[str, Any],
    name: str,
    key: Callable[[str], K | None],
    value: Callable[[Any], T],
) -> dict[K, T]:
    """Return a part of the report; one that is missing says nothing, as an empty one.

    So does a key that names nothing: callers choose what they ask for.
    """
    part = body.get(name, {})
    if not isinstance(part, dict):
        raise ValueError(f"{name} is no object")  # noqa: TRY004
    found = {}
    for text, told in part.items():
        try:
            known, says = key(text), value(told)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if known is not None:
            found[known] = says
    return found


def _service(text: str) -> ServiceKey | None:
    namespace, _, name = text.partition("/")
    return ServiceKey(namespace, name) if namespace and name and "/" not in name else None


def _uid(text: str) -> str | None:
    return text or None


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise ValueError(f"{value!r:.80} is no count")
    return value


def _seconds(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 <= value <= _LONGEST:
        raise ValueError(f"{value!r:.80} are no seconds")
    return float(value)


def _words(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.80} is no text")  # noqa: TRY004
    return value[:_WORDS]


def _tallies(value: Any) -> dict[str, Tally]:
    if not isinstance(value, dict) or "" in value:
        raise ValueError(f"{value!r:.80} are no tallies by revision")
    return {revision: _tally(told) for revision, told in value.items()}


def _tally(value: Any) -> Tally:
    if not isinstance(value, dict) or not isinstance(value.get("buckets"), list):
        raise ValueError(f"{value!r:.80} is no tally")  # noqa: TRY004
    requests, failed, retried = (_count(value.get(n)) for n in ("requests", "failed", "retried"))
    found = Tally(requests, failed, retried, tuple(map(_count, value["buckets"])))
    if not found.sound:
        raise ValueError(f"{value!r:.80} counts more than there is")
    return found


class Agents:
    """The agents of the front door's replicas, asked over HTTP."""

    def __init__(self, port: int = PORT_FRONT_DOOR_AGENT) -> None:
        """``port`` is where each of them serves its report."""
        self._port = port
        self._session: aiohttp.ClientSession | None = None

    async def report(self, address: str, *, after: int, wait: float) -> Report:
        """Return the report of the agent at an IP address; see ReportSource."""
        url = f"http://{_host(address)}:{self._port}/report"
        timeout = aiohttp.ClientTimeout(total=wait + SLACK_S, sock_connect=SLACK_S)
        params = {"after": str(after), "wait": f"{wait:g}"}
        try:
            async with self._open().get(
                url, params=params, timeout=timeout, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    raise ReportUnavailable(f"{url} answers {answer.status}")
                return report_of(json.loads(await _read(answer)))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            words = str(error) or type(error).__name__
            raise ReportUnavailable(f"{url} does not answer: {words:.300}") from error
        except (ValueError, RecursionError) as error:
            raise ReportUnavailable(f"{url} gives no report: {error!s:.300}") from error

    async def close(self) -> None:
        """Give the connections back."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False)
        return self._session


def _host(address: str) -> str:
    try:
        six = ipaddress.ip_address(address).version == 6
    except ValueError:
        six = False
    return f"[{address}]" if six else address


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Return the body. Raises ValueError where it is longer than a report may be."""
    found = bytearray()
    async for chunk in answer.content.iter_chunked(2**16):
        found += chunk
        if len(found) > MOST_BYTES:
            raise ValueError(f"it is longer than {MOST_BYTES} bytes")
    return bytes(found)
