"""Which replica is made again because it takes requests and answers none, and when that is no help.

Health checks don't see it: only who asks does. One at a time, and seldom, since who says so may be wrong:
a mistake must not take a service's replicas from it faster than they come back.
"""

from dataclasses import dataclass, replace

from conch.decisions.fleet import Pod, Service
from conch.decisions.rollout import answers

APART = 60.0
"""Seconds between two replacements of one service, at least; and twice a load time."""
TRIES = 2
"""Replacements after which all replicas of a service answer nothing again: another helps no more."""
CALM = 10.0
"""Times as long, that nothing may have been replaced, until what was tried before is forgotten."""


@dataclass(frozen=True)
class Repair:
    """What is remembered of one service; times in seconds since the epoch."""

    revision: str | None = None
    uid: str | None = None
    """The replica that is being replaced."""
    last: float | None = None
    """When the last replacement began."""
    tries: int = 0


def sick(service: Service) -> tuple[Pod, ...]:
    """Return the replicas of the wanted revision that get requests and answer none, by name."""
    revision = service.revision or service.serving_revision
    found = [p for p in service.pods if p.revision == revision and answers(p) and p.broken]
    return tuple(sorted(found, key=lambda p: p.name))


def looked_at(service: Service, known: Repair, now: float, *, load_seconds: float) -> Repair:
    """Return what is remembered after a look at ``now``; its ``uid`` is the one to replace, if any.

    An operator that begins anew takes the newest replica for the last replacement.
    """
    revision, pods = service.revision or service.serving_revision, sick(service)
    if known.revision != revision:
        known = Repair(revision, last=known.last)
    if known.uid not in {p.uid for p in pods}:
        known = replace(known, uid=None)
    pause = max(APART, 2.0 * load_seconds)
    since = now - (service.newest if known.last is None else known.last)
    if not pods:
        return replace(known, tries=0) if since >= CALM * pause else known
    # A clock that went back lets nobody wait for ever.
    due = known.uid is None and not 0.0 <= since < pause and not hopeless(service, known)
    if not due:
        return known
    return replace(known, uid=pods[0].uid, last=now, tries=known.tries + 1)


def hopeless(service: Service, known: Repair) -> bool:
    """Return whether no replica answers, and replacing them has not helped."""
    ready = [p for p in service.pods if p.revision == known.revision and answers(p)]
    none = bool(ready) and all(p.broken for p in ready)
    return none and known.tries >= TRIES and known.uid is None


def marked(service: Service, known: Repair) -> Service:
    """Return the service with its part in the repair written on it."""
    pods = tuple(replace(p, replaced=True) if p.uid == known.uid else p for p in service.pods)
    return replace(service, pods=pods, irreparable=hopeless(service, known))


@dataclass(frozen=True)
class Mending:
    """What to plan for: so many replicas, and a pod to be deleted as there is no place beside it."""

    replicas: int
    delete: Pod | None = None


def mending(service: Service, wanted: int, *, held: int, most: int, free: bool) -> Mending:
    """Return what to plan for where ``wanted`` replicas are to answer.

    ``held`` serve or start, but for the one that is replaced; ``most`` may be had, and there is a
    ``free`` place for one more, or none. The replacement comes first where it has a place, and the other
    leaves, drained, once as many answer as are wanted.
    """
    old = next((p for p in service.pods if p.replaced and not p.deleting), None)
    if old is None:
        return Mending(wanted)
    good = sum(answers(p) and not p.broken for p in service.pods if p.revision == old.revision)
    begun = held >= wanted
    if good < wanted and wanted < most and (begun or free):
        return Mending(wanted + 1)
    return Mending(wanted, None if begun else old)
