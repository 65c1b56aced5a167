"""What can befall a call to the API server, and which calls it befalls."""

import json
from collections.abc import Callable
from dataclasses import dataclass

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
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": self.status,
            "reason": _REASONS.get(self.status, "Unknown"),
            "message": "made by the fault proxy",
        }
        later = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return web.Response(
            status=self.status,
            body=json.dumps(status).encode(),
            headers={"Content-Type": "application/json", **later},
        )


@dataclass(frozen=True)
class Delay:
    """The call is relayed after so many seconds."""

    seconds: float


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


Fault = Answer | Delay | Cut | Kill


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
