"""HAProxy's configuration: the whole file, from routes and settings. Pure.

HAProxy 2.6, configuration.txt. What may change without a reload (addresses, states, keys, hosts,
limits) stands in maps and in places of servers; the rest is the shape.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from conch.api.endpoint import RequestLimits
from conch.api.names import PORT_GRPC, PORT_HTTP
from conch.frontdoor import log, refusals
from conch.frontdoor.commands import backend, server
from conch.frontdoor.drawn import drawn, once
from conch.frontdoor.public import COMMON, WHOLE_BODY, public
from conch.frontdoor.routes import Route, Rules
from conch.frontdoor.setup import Setup
from conch.frontdoor.slots import Slot, Slots, State

MOST_PER_REPLICA = 256
"""Requests of one kind that a replica of the front door has under way at a pod; more wait here."""
CHECK_S = 2.0
"""Seconds between two looks whether a pod is still the service's."""
REPLAY = "conn-failure empty-response"
_DRAWN = "use-server %[var(txn.place)] if { var(txn.place) -m found }"
"""To the pod of a canary; see conch.frontdoor.drawn."""
Profiles = Mapping[tuple[Rules, str], str]


@dataclass(frozen=True, slots=True)
class Shape:
    """All of a service that a change of takes a reload."""

    timeout: float
    max_waiting: int
    max_wait: float
    replay: bool
    slow_start: float
    proven: bool
    places: int


def shape_of(route: Route, slots: Slots) -> Shape:
    """Return the shape of a service with so many places."""
    rules = route.rules
    return Shape(
        timeout=rules.timeout,
        max_waiting=rules.max_waiting,
        max_wait=rules.max_wait,
        replay=rules.replay,
        slow_start=rules.slow_start,
        proven=route.proven,
        places=len(slots),
    )


def configuration(setup: Setup, services: Sequence[tuple[Route, Slots]], *, mark: str) -> str:
    """Return the text of haproxy.cfg; ``mark`` is a word by which a running worker is known."""
    lines = [*_global(setup, mark), *_defaults(setup), *public(setup), *_held(setup)]
    lines += [*_next(setup), *drawn(setup), *_pages(setup)]
    profiles = _profiles(services)
    for (rules, protocol), name in profiles.items():
        title = f"defaults {name} from {COMMON}"
        lines += _section(title, _profile(rules, protocol))
    for route, slots in services:
        lines += _backends(route, slots, profiles, setup)
    return "\n".join(lines) + "\n"


def beginning(setup: Setup) -> str:
    """Return the text of haproxy.cfg before anything is known: nothing is ready, all is refused."""
    closed = _section(
        f"frontend public from {COMMON}",
        [
            f"bind {setup.address}:{setup.http_port}",
            "acl grpc req.hdr(content-type) -m beg application/grpc",
            *refusals.rules(refusals.NOT_YET, "{ always_true }"),
            *refusals.typed(),
        ],
    )
    health = _section(
        f"frontend health from {COMMON}",
        [f"bind {setup.address}:{setup.health_port}", "http-request return status 503"],
    )
    return "\n".join([*_global(setup, "beginning"), *_defaults(setup), *closed, *health]) + "\n"


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines), ""]


def _global(setup: Setup, mark: str) -> list[str]:
    return _section(
        "global",
        [
            f"log ring@agent len {log.MOST_BYTES} format raw local0 info",
            f"stats socket {setup.stats_socket} mode 660 level admin expose-fd listeners",
            f"setenv CONCH_MARK {mark}",
            f"nbthread {setup.threads}",
            f"maxconn {setup.max_connections}",
            # Where the node allows fewer open files than that, fewer connections are better than none.
            "no strict-limits",
            f"hard-stop-after {setup.longest_stream:.0f}s",
            # No close-spread-time: it closes idle connections, which a request may be on its way to.
            *(f"lua-load {script}" for script in setup.scripts),
            # A key's limits are its own, whichever thread: idle connections serve all threads.
            "tune.idle-pool.shared on",
            # Windows of large tensors over HTTP/2.
            "tune.h2.initial-window-size 1048576",
            "tune.h2.max-concurrent-streams 256",
            "ssl-default-bind-options ssl-min-ver TLSv1.2",
        ],
    ) + _section(
        "ring agent",
        [
            "format raw",
            f"maxlen {log.MOST_BYTES}",
            f"size {log.BUFFER_BYTES}",
            "timeout connect 1s",
            "timeout server 1h",
            f"server agent unix@{setup.log_socket} log-proto octet-count",
        ],
    )


def _defaults(setup: Setup) -> list[str]:
    return _section(
        f"defaults {COMMON}",
        [
            "mode http",
            "log global",
            "option http-keep-alive",
            # What is idle when a worker is replaced is told with its next answer, not cut off.
            "option idle-close-on-response",
            "option dontlognull",
            "option splice-auto",
            "timeout connect 1s",
            "timeout client 60s",
            # What a replaced worker has said good-bye to is closed soon: gRPC's library was seen to
            # use such a connection until it ended, each call in vain.
            "timeout client-fin 1s",
            "timeout server 60s",
            # A head that comes in drops holds a connection for so long at most.
            f"timeout http-request {setup.head_timeout:.0f}s",
            # Idle connections of a worker that was replaced keep it, and its memory, for so long.
            "timeout http-keep-alive 75s",
            "timeout queue 60s",
            "timeout tunnel 1h",
            "retries 3",
            # To another replica at once; the last one is where requests wait.
            "option redispatch 1",
            "retry-on conn-failure",
            *refusals.own_errors(),
        ],
    )


def _held(setup: Setup) -> list[str]:
    """Return where requests wait that no replica can take."""
    return _section(
        f"frontend held from {COMMON}",
        [
            f"bind {setup.held_socket} mode 600",
            "no log",
            "timeout client 24h",
            "acl grpc req.hdr(content-type) -m beg application/grpc",
            "http-request track-sc2 req.fhdr(conch-backend) table waiting",
            "http-request set-var(txn.most) req.fhdr(conch-most)",
            "http-request set-var(txn.left) sc2_conn_cur,sub(txn.most)",
            *refusals.rules(refusals.TOO_MANY_WAIT, "{ var(txn.left) -m int gt 0 }"),
            "http-request set-var(txn.spoken) str(http)",
            "http-request set-var(txn.spoken) str(grpc) if grpc",
            "http-request lua.hold",
            *refusals.rules(refusals.WAITED, "{ var(txn.late) -m found }"),
            *refusals.typed(),
            "use_backend next-%[var(txn.spoken)] if { var(txn.moved) -m found }",
            "use_backend %[req.fhdr(conch-backend)]",
        ],
    ) + _section(
        f"backend waiting from {COMMON}",
        ["stick-table type string len 200 size 20k expire 60s store conn_cur"],
    )


def _next(setup: Setup) -> list[str]:
    """Return the way to the worker that has replaced this one: the socket is its by then."""
    return [
        line
        for protocol, proto in (("http", ""), ("grpc", " proto h2"))
        for line in _section(
            f"backend next-{protocol} from {COMMON}",
            ["timeout server 24h", f"server worker {setup.held_socket}{proto}"],
        )
    ]


def _pages(setup: Setup) -> list[str]:
    return _section(
        f"backend pages from {COMMON}",
        [
            "acl grpc req.hdr(content-type) -m beg application/grpc",
            "http-request set-path /pages%[path]",
            "http-request set-header x-forwarded-proto https if { ssl_fc }",
            "http-request set-header conch-tenant %[var(txn.tenant)]",
            "http-request set-header conch-service %[var(txn.service)]",
            "timeout server 10s",
            f"server agent 127.0.0.1:{setup.agent_port}",
        ],
    )


def _profiles(services: Sequence[tuple[Route, Slots]]) -> dict[tuple[Rules, str], str]:
    """Return the names of what backends have in common, by rules and protocol.

    Thousands of services have few kinds of rules: HAProxy reads and keeps each kind once.
    """
    kinds = dict.fromkeys(_common_rules(route.rules) for route, _ in services)
    return {
        (kind, protocol): f"{protocol}-{number}"
        for number, kind in enumerate(kinds)
        for protocol in ("http", "grpc")
    }


@lru_cache(maxsize=4096)
def _common_rules(rules: Rules) -> Rules:
    """Return rules without what stands in maps."""
    return replace(rules, open=False, max_body=0, limits=RequestLimits())


def _profile(rules: Rules, protocol: str) -> Iterator[str]:
    yield "balance leastconn"
    yield f"timeout server {_ms(rules.timeout)}"
    # Nothing at all would mean for ever.
    yield f"timeout queue {_ms(max(0.001, rules.max_wait))}"
    yield "http-request set-header conch-backend %[be_name]"
    yield f"http-request set-header conch-wait {rules.max_wait:.0f}"
    yield f"http-request set-header conch-most {rules.max_waiting}"
    yield f"acl grpc always_{'true' if protocol == 'grpc' else 'false'}"
    spoken = "grpc" if protocol == "grpc" else "!grpc"
    full = f"{spoken} {{ queue ge {max(1, rules.max_waiting)} }}"
    yield from refusals.rules(refusals.TOO_MANY_WAIT, full)
    if rules.replay:
        yield f"retry-on {REPLAY}"
        # Not by an option: a stream, which may wait for its first answer, would never go on.
        yield WHOLE_BODY
        yield from once(protocol)
    if protocol == "grpc":
        yield f"default-server proto h2 maxconn {MOST_PER_REPLICA}"
        return
    yield "option httpchk"
    yield (
        f"default-server check inter {_ms(CHECK_S)} fastinter 500ms downinter 1s fall 2 rise 1 "
        # One connection that can't be opened is enough; the next look finds it back.
        "observe layer4 error-limit 1 on-error mark-down "
        f"maxconn {MOST_PER_REPLICA} slowstart {_ms(rules.slow_start)}"
    )


def _backends(route: Route, slots: Slots, profiles: Profiles, setup: Setup) -> Iterator[str]:
    kind = _common_rules(route.rules)
    for protocol, servers in (("http", _http), ("grpc", _grpc)):
        title = f"backend {backend(route.key, protocol)} from {profiles[kind, protocol]}"
        yield from _section(title, servers(route, slots, setup))


def _http(route: Route, slots: Slots, setup: Setup) -> Iterator[str]:
    # Both here: a backend with rules of its own for checks has none of its profile's.
    yield "http-check send meth GET uri /v2"
    yield f"http-check expect rstring {_identity(route)}"
    yield _DRAWN
    for index, slot in enumerate(slots):
        yield f"server {server(index)} {_address(slot, PORT_HTTP)} weight {slot.weight}{_state(slot)}"
    yield f"server held {setup.held_socket} backup no-check maxconn 0 slowstart 0"


def _grpc(route: Route, slots: Slots, setup: Setup) -> Iterator[str]:
    yield _DRAWN
    for index, slot in enumerate(slots):
        tracked = f"{backend(route.key, 'http')}/{server(index)}"
        yield f"server {server(index)} {_address(slot, PORT_GRPC)} weight {slot.weight} track {tracked}"
    yield f"server held {setup.held_socket} backup maxconn 0"


def _identity(route: Route) -> str:
    """Return what a pod says of itself; one that was begun without a name can say less."""
    name = f"{route.key.namespace}/{route.key.name}".replace(".", r"\\.")
    names = name if route.proven else f"({name}|triton)"
    return f'\'"name":"{names}"\''


def _address(slot: Slot, port: int) -> str:
    return f"{slot.address or '0.0.0.0'}:{port}"  # noqa: S104  # nowhere, until a pod has the place


def _state(slot: Slot) -> str:
    # The configuration knows no drained servers: one that drains gets nothing new until it is told.
    return "" if slot.state is State.READY else " disabled"


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
