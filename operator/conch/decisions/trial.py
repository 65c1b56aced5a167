"""A revision on trial beside the one that serves: what each of the two may have.

The one that serves comes first to what is free. Where nothing is, it gives up one replica after the
other for a canary, never its last, and only while those of the canary that have a place answer.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from conch.decisions import placement
from conch.decisions.fleet import Pod, Pool, Service, Shape
from conch.decisions.placement import Ledger
from conch.decisions.rollout import answers
from conch.decisions.shares import Grant


def placed(service: Service, revision: str, grant: Grant | None) -> Mapping[str, int]:
    """Return, by pool, the replicas of a revision that have a place and keep it."""
    return Counter(p.pool for p in service.pods if p.revision == revision and _keeps(p, grant))


def _keeps(pod: Pod, grant: Grant | None) -> bool:
    leaves = pod.deleting or pod.goes or pod.draining_since is not None
    given_up = grant is not None and pod.uid in grant.given_up
    return pod.takes_place and not leaves and not given_up


def left(grant: Grant | None, taken: Mapping[str, int]) -> Grant | None:
    """Return what a grant leaves where another revision of the service has ``taken`` by pool."""
    if grant is None:
        return None
    replicas = {p: max(0, n - taken.get(p, 0)) for p, n in grant.replicas.items()}
    return replace(grant, replicas=replicas)


def stays(
    service: Service,
    wanted: int,
    trial: int,
    *,
    pools: Sequence[Pool],
    shapes: Mapping[str, Shape],
    ledger: Ledger,
    grant: Grant | None,
) -> int:
    """Return how many of ``wanted`` replicas the revision that serves is planned with.

    ``trial`` replicas are to stand beside it, of these ``shapes`` by pool. Nothing is booked.
    """
    old = placed(service, service.revision or "", grant)
    new = placed(service, service.trial or "", grant)
    here, missing = sum(old.values()), trial - sum(new.values())
    if missing <= 0 or not here:
        return wanted
    lacking, more = max(0, wanted - here), left(left(grant, old), new)
    room = 0
    for pool in pools:
        most = missing + lacking - room
        may = most if more is None else min(most, more.replicas.get(pool.name, 0))
        room += placement.room(pool, shapes[pool.name], ledger, most=may)
    if room >= missing + lacking:
        return wanted
    return min(wanted, here if room else here - _gives(service, grant))


def _gives(service: Service, grant: Grant | None) -> bool:
    """Tell whether the revision that serves is to give up one more replica, where nothing is free."""
    old = [p for p in service.pods if p.revision == service.revision and p.takes_place]
    new = [p for p in service.pods if p.revision == service.trial and p.takes_place]
    all_stay = all(_keeps(p, grant) for p in (*old, *new))
    return all_stay and all(map(answers, new)) and sum(map(answers, old)) > 1
