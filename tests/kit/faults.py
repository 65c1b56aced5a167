"""What can befall a call to the API server, and which calls it befalls."""

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aiohttp import web

from tests.kit.apicalls import Call

Match = Callable[[Call], bool]

_REASONS = {
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True)
class Answer:
    """The API server is not asked; the client gets this error."""

    status: int
    retry_after: int | None = None
    """Seconds, as 429 and 503 carry them."""

    def response(self) -> web.Response:
        """The error as the API server words it."""
        later = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return web.Response(
            status=self.status,
            body=json.dumps(_status(self.status)).encode(),
            headers={"Content-Type": "application/json", **later},
        )


@dataclass(frozen=True)
class WatchError(Answer):
    """A watch begins, and its first event is this error, as where its version is too old (410)."""

    def response(self) -> web.Response:
        """The event, and the end of the watch."""
        event = {"type": "ERROR", "object": _status(self.status)}
        return web.Response(
            body=json.dumps(event).encode() + b"\n", headers={"Content-Type": "application/json"}
        )


def _status(code: int) -> dict[str, object]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "code": code,
        "reason": _REASONS.get(code, "Unknown"),
        "message": "made by the fault proxy",
    }


@dataclass(frozen=True)
class Delay:
    """The call is relayed after so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Pages:
    """A list in pages is answered in pages of so many items at most."""

    size: int

    def query(self, query: str) -> str:
        """Return the query with a smaller limit, where it has one."""
        return re.sub(r"\blimit=\d+", f"limit={self.size}", query)


@dataclass(frozen=True)
class Cut:
    """The connection is reset and nothing relayed."""

    def happen(self) -> None:
        """Nothing beside the reset."""


@dataclass(frozen=True)
class Kill:
    """Something is done, such as killing the operator, and the connection is reset.

    With ``after``, the API server has carried the call out first; without, it never sees it.
    """

    victim: Callable[[], object]
    after: bool

    def happen(self) -> None:
        """Do it."""
        self.victim()


def _nothing() -> None:
    """Be no victim."""


LOST = Kill(_nothing, after=True)
"""The call is carried out, and its answer lost."""

Fault = Answer | Delay | Cut | Kill | Pages


@dataclass
class Rule:
    """A fault for the calls that match, at most ``times`` of them."""

    match: Match
    fault: Fault
    times: int | None = None
    taken: int = 0

    def takes(self, call: Call) -> bool:
        """Whether the fault befalls this call; counts it if so."""
        if self.times is not None and self.taken >= self.times:
            return False
        if not self.match(call):
            return False
        self.taken += 1
        return True


@dataclass
class Storm(Rule):
    """Faults by chance, each time another: one of ``faults`` for each call's verb, at this rate."""

    match: Match = lambda _: True
    fault: Fault = field(default_factory=Cut)
    faults: Callable[[Call], Sequence[Fault]] = lambda _: (Cut(),)
    rate: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Begin anew."""
        self._random = random.Random(self.seed)

    def takes(self, call: Call) -> bool:
        """Draw, and choose what befalls this call."""
        if not self.match(call) or self._random.random() >= self.rate:
            return False
        self.fault = self._random.choice(self.faults(call))
        self.taken += 1
        return True


_OF_WRITES = (Answer(409), Answer(429, retry_after=1), Answer(500), Answer(503), Cut(), LOST)
# That a version is too old is said within a watch, not instead of one.
_OF_WATCHES = (WatchError(410), Answer(429, retry_after=1), Answer(500), Cut())
_OF_READS = (Answer(429, retry_after=1), Answer(500), Answer(504), Delay(0.5), Cut())


def bad_weather(call: Call) -> Sequence[Fault]:
    """Return what an API server in trouble may answer to a call."""
    if call.verb == "watch":
        return _OF_WATCHES
    if call.verb in ("get", "list"):
        return (Answer(410),) if call.continues else _OF_READS
    return _OF_WRITES


def at_write(number: int) -> Match:
    """Match the ``number``-th write, counted from 1."""
    return lambda call: call.number == number


@dataclass
class Nth:
    """Match the ``number``-th of the writes that are ``mine``, counted from 1; it is ``hit`` then."""

    number: int
    mine: Match
    count: int = 0
    hit: Call | None = None

    def __call__(self, call: Call) -> bool:
        """Count a write that is mine."""
        if call.counts and self.mine(call):
            self.count += 1
            if self.count == self.number:
                self.hit = call
                return True
        return False


def on(resource: str, *verbs: str, name: str | None = None) -> Match:
    """Match calls about a resource (plural, lower case), of these verbs or of any."""

    def matches(call: Call) -> bool:
        fits = call.resource == resource and (not verbs or call.verb in verbs)
        return fits and (name is None or call.name == name)

    return matches
