"""From what HAProxy was told to what it should know: commands of its runtime API. Pure.

HAProxy 2.6, management.txt, 9.3 ("Unix Socket commands").
"""

from collections.abc import Iterator, Mapping

from conch.api.names import PORT_GRPC, PORT_HTTP
from conch.decisions.fleet import ServiceKey
from conch.frontdoor.slots import Slot, Slots, State


def backend(key: ServiceKey, protocol: str) -> str:
    """Return HAProxy's name of a service's backend; ``protocol`` is http or grpc."""
    return f"{key.namespace}:{key.name}:{protocol}"


def server(index: int) -> str:
    """Return HAProxy's name of a service's place, counted from 0."""
    return f"s{index + 1}"


def slot_commands(key: ServiceKey, old: Slots, new: Slots) -> list[str]:
    """Return what brings a service's places from ``old`` to ``new``; both are of one length."""
    return [
        command
        for index, (before, after) in enumerate(zip(old, new, strict=True))
        if before != after
        for command in _slot(key, server(index), before, after)
    ]


def _slot(key: ServiceKey, name: str, before: Slot, after: Slot) -> Iterator[str]:
    http, grpc = (f"{backend(key, p)}/{name}" for p in ("http", "grpc"))
    if before.uid is not None and (before.uid != after.uid or after.state is State.FREE):
        # Its pod is gone or hangs: on a node that vanished, nobody else would end what is under way.
        yield f"set server {http} state maint"
        yield f"shutdown sessions server {http}"
        yield f"shutdown sessions server {grpc}"
    if after.uid is None or after.state is State.FREE:
        return
    if before.address != after.address or before.uid != after.uid:
        yield f"set server {http} addr {after.address} port {PORT_HTTP}"
        yield f"set server {grpc} addr {after.address} port {PORT_GRPC}"
    if before.weight != after.weight or before.uid != after.uid:
        yield f"set server {http} weight {after.weight}"
        yield f"set server {grpc} weight {after.weight}"
    # The place for gRPC tracks that for HTTP.
    yield f"set server {http} state {after.state}"


def map_commands(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return what brings the entries of a map, at the path ``name``, from ``old`` to ``new``.

    What is taken away goes first: a key that is revoked opens nothing while others are added.
    """
    gone = [f"del map {name} {key}" for key in old if key not in new]
    changed = [
        f"set map {name} {key} {value}"
        for key, value in new.items()
        if key in old and old[key] != value
    ]
    added = [f"add map {name} {key} {value}" for key, value in new.items() if key not in old]
    return [*gone, *changed, *added]
