"""The part of HAProxy's configuration that takes drawn requests to a canary, and back if it fails. Pure.

A request that was drawn goes by a socket of the same HAProxy to its service's backend, and there to the
place that was drawn. What the canary fails at comes back over that socket with a status that nobody
else uses, and is asked once more by the other socket, which leads to the stable revision. So only the
canary's own failures are asked again, those over gRPC too, and what stable answered never is.
"""

from collections.abc import Iterator

from conch.frontdoor import refusals
from conch.frontdoor.public import COMMON
from conch.frontdoor.setup import Setup

HTTP_FAULTS = frozenset({500, 501, 502, 503, 504})
"""Statuses that speak against who answers. 501 does: a revision may lack what the other one has."""
GRPC_FAULTS = frozenset({2, 4, 8, 12, 13, 14, 15})
"""UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED (memory: limits of callers are the front door's
own), UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS; the others are the caller's matter."""
FAILED = 425
"""Status of a canary's failure between the two halves; "Too Early", which HAProxy can ask again for."""
_SEQUENCE = "sequence_id"
_BUFFER, _WINDOW = 16 << 10, 8000
"""Bytes that HAProxy holds of a body, and those that are looked at together."""
_FOR_EVER = "24h"
"""The service's own time-outs are those of its backend."""


def drawn(setup: Setup) -> list[str]:
    """Return the sections between the front and the services' backends."""
    return [
        line
        for title, lines in (
            (f"backend drawn-http from {COMMON}", _out(setup, "http")),
            (f"backend drawn-grpc from {COMMON}", _out(setup, "grpc")),
            (f"frontend drawn from {COMMON}", _in(setup)),
        )
        for line in (title, *(f"  {line}" for line in lines), "")
    ]


def _out(setup: Setup, protocol: str) -> Iterator[str]:
    """Yield the way out: to the canary first, and if that fails to the stable revision."""
    yield f"timeout server {_FOR_EVER}"
    yield "retries 1"
    yield f"retry-on conn-failure empty-response {FAILED}"
    # A worker that is replaced closes idle connections; one that is used once is never idle.
    yield "http-reuse never"
    yield f"http-request set-header conch-backend %[var(txn.service),regsub(/,:)]:{protocol}"
    yield "http-request set-header conch-place %[var(txn.place)]"
    yield from once(protocol)
    yield "http-response set-var(txn.answered) res.hdr(conch-answered)"
    for status in sorted({200, *HTTP_FAULTS}):
        yield f"http-response set-status {status} if {{ res.hdr(conch-status) {status} }}"
    for header in ("conch-status", "conch-answered"):
        yield f"http-response del-header {header}"
    yield "use-server canary if { always_true }"
    proto = " proto h2" if protocol == "grpc" else ""
    for which, weight in (("canary", 0), ("stable", 1)):
        yield f"server {which} {setup.drawn_socket(which)} weight {weight}{proto}"


def once(protocol: str) -> Iterator[str]:
    """Yield the rules by which what is not safe to repeat is asked once.

    A model that counts on having seen the first part of a sequence must not see a part twice, and
    what is packed can't be looked into.
    """
    never = "http-request disable-l7-retry if"
    yield f"{never} {{ req.hdr(content-encoding) -m found }}"
    if protocol == "http":
        yield f"{never} {{ req.body -m sub {_SEQUENCE} }}"
        return
    yield f"{never} {{ path_end /ModelStreamInfer }}"
    # A message's first byte tells whether it is packed.
    yield f"{never} !{{ req.body,bytes(0,1),hex -m str 00 }}"
    # Texts end at a zero byte for HAProxy, digits don't; its buffer holds those of half a body.
    digits = _SEQUENCE.encode().hex().upper()
    for begin in range(0, _BUFFER, _WINDOW - len(_SEQUENCE)):
        window = f"bytes({begin},{_WINDOW})"
        yield f"{never} {{ req.body,{window},hex -m sub {digits} }}"


def _in(setup: Setup) -> Iterator[str]:
    """Yield the way in: to the backend of the service, and there to the place that was drawn."""
    for which in ("canary", "stable"):
        yield f"bind {setup.drawn_socket(which)} mode 600 name {which}"
    yield "no log"
    yield f"timeout client {_FOR_EVER}"
    yield "acl grpc req.hdr(content-type) -m beg application/grpc"
    yield "http-request set-var(txn.place) req.hdr(conch-place) if { so_name canary }"
    yield "http-request del-header conch-place"
    yield "http-response set-var(txn.told) bool(true)"
    for header in ("conch-status", "conch-answered"):
        yield f"http-response del-header {header}"
    yield from refusals.typed()
    yield "http-after-response set-header conch-answered %[srv_name] if { srv_name -m found }"
    yield "acl its srv_name,strcmp(txn.place) eq 0"
    yield "acl told var(txn.told) -m found"
    yield f"acl failed status {' '.join(map(str, sorted(HTTP_FAULTS)))}"
    yield f"acl grpc_failed res.hdr(grpc-status) {' '.join(map(str, sorted(GRPC_FAULTS)))}"
    # HAProxy's own 502 is a connection that was cut. Its 504 comes after all the time there was.
    for condition in ("told failed", "told grpc_failed", "!told { status 502 }"):
        yield f"http-after-response set-header conch-status %[status] if its {condition}"
    marked = "{ res.hdr(conch-status) -m found }"
    yield f"http-after-response set-status {FAILED} if {marked}"
    yield "use_backend %[req.fhdr(conch-backend)]"
