"""What callers are told when the front door itself answers, over REST and over gRPC. Pure.

gRPC's codes are those of https://grpc.github.io/grpc/core/md_doc_statuscodes.html.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """One answer of the front door's own."""

    status: int
    """Of HTTP."""
    grpc: int
    """Of gRPC."""
    message: str
    retry_after: int | None = None
    """Seconds."""


NO_KEY = Refusal(401, 16, "no valid key: send Authorization: Bearer KEY")
NOT_FOUND = Refusal(404, 5, "there is no such service, or this key may not ask it")
NO_PATH = Refusal(404, 12, "the protocol has no such path; see the page of the service")
NO_MODEL = Refusal(404, 5, "this service has no model of that name")
TOO_FAST = Refusal(429, 8, "too many requests a second for this key at this service", 1)
TOO_MANY = Refusal(429, 8, "too many requests at a time for this key at this service", 1)
TENANT_TOO_FAST = Refusal(429, 8, "too many requests a second for this tenant", 1)
TENANT_TOO_MANY = Refusal(429, 8, "too many requests at a time for this tenant", 1)
NO_LENGTH = Refusal(411, 3, "say how long the body is: send Content-Length")
TOO_LARGE = Refusal(413, 8, "the body is larger than this service takes")
TOO_MANY_WAIT = Refusal(503, 14, "too many requests wait for a replica of this service", 5)
WAITED = Refusal(503, 14, "no replica of this service answered in time", 10)
NOT_YET = Refusal(503, 14, "the front door is starting", 1)
_OWN = {
    400: "this is no valid HTTP request",
    408: "the request did not come in time",
    500: "the front door failed at this request",
    502: "the replica that took this request ended before it answered",
    503: "no replica took this request",
    504: "the replica that took this request did not answer in time",
}
"""What HAProxy itself answers; gRPC's libraries know these by their status."""


def rules(refusal: Refusal, condition: str) -> list[str]:
    """Return the lines that refuse requests under a condition, in a rule set with the ACL ``grpc``.

    A condition that names the protocol itself needs only one of them. HAProxy gives an answer
    without a body no type, so gRPC's comes by ``typed``.
    """
    later = [] if refusal.retry_after is None else [f"hdr Retry-After {refusal.retry_after}"]
    words = _quoted(refusal.message)
    grpc = f"http-request return status 200 hdr grpc-status {refusal.grpc} hdr grpc-message {words}"
    body = _quoted(f'{{"error":"{refusal.message}"}}')
    rest = f"http-request return status {refusal.status} content-type application/json"
    rest = " ".join([rest, f"string {body}", *later, *_challenge(refusal)])
    asked = condition.split()
    if "grpc" in asked:
        return [f"{grpc} if {condition}"]
    if "!grpc" in asked:
        return [f"{rest} if {condition}"]
    return [f"{grpc} if {condition} grpc", f"{rest} if {condition}"]


def after_body(refusal: Refusal, condition: str) -> list[str]:
    """Return the lines that refuse requests in the midst of their bodies, as ``rules`` does others.

    HAProxy reads what is left of one over REST by itself.
    """
    refused = (("status", refusal.grpc), ("words", _quoted(refusal.message)))
    return [
        *(
            f"http-request set-var(txn.refused_{n}) str({v}) if {condition} grpc"
            for n, v in refused
        ),
        f"http-request use-service lua.refuse if {condition} grpc",
        *rules(refusal, f"!grpc {condition}"),
    ]


def own_errors() -> list[str]:
    """Return the lines by which HAProxy's own errors are like a refusal."""
    bodies = {status: _quoted(f'{{"error":"{text}"}}') for status, text in _OWN.items()}
    head = "content-type application/json string"
    return [f"http-error status {status} {head} {body}" for status, body in bodies.items()]


def _challenge(refusal: Refusal) -> list[str]:
    """Return what makes browsers ask for a key, which the pages need."""
    if refusal.status != NO_KEY.status:
        return []
    return ["hdr WWW-Authenticate " + _quoted('Basic realm="conch, any name, password: a key"')]


def typed() -> list[str]:
    """Return the lines that make a gRPC answer of a refusal: its type, and no length."""
    own = "{ res.hdr(grpc-status) -m found } !{ res.hdr(content-type) -m found }"
    grpc = "{ res.hdr(content-type) -m beg application/grpc }"
    return [
        f"http-after-response set-header content-type application/grpc if {own}",
        f"http-after-response del-header content-length if {grpc}",
    ]


def _quoted(text: str) -> str:
    """Return a text as one word of HAProxy's configuration."""
    return "'" + text.replace("'", "'\\''") + "'"
