"""What others are entitled to is taken back by a move, where there is another place.

The replica that is to give up its place goes on there until another of its service answers elsewhere. Where
there is no other place, or the move did not come about, it is drained and goes.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from conch.api.migration import MoveReason
from conch.decisions import placement
from conch.decisions.fleet import Pod
from conch.decisions.placement import Ledger
from conch.decisions.rollout import answers
from conch.decisions.shares import Grant
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.migrations import Wanted, name_of


def spared(
    facts: ServiceFacts, grant: Grant, ledger: Ledger, tried: Mapping[tuple[str, str], bool]
) -> tuple[Grant, Wanted | None]:
    """Return a grant without what is moved rather than drained, and the move to ask for, if any.

    ``ledger`` tells what is promised to nobody; ``tried`` are the ModelMigrations that there are, by namespace and
    name, with whether they are over. One replica of a service moves at a time; the others wait for it.
    """
    service = facts.service
    if not grant.given_up or service.revision != service.serving_revision:
        return grant, None
    given_up = (p for p in service.pods if p.uid in grant.given_up and p.revision != service.trial)
    mine = sorted(given_up, key=lambda p: p.name)
    stays, asked = list[Pod](), list[Wanted]()
    for pod in mine:
        name = name_of(facts.key.name, MoveReason.RECLAIM, pod.uid)
        over = tried.get((facts.key.namespace, name))
        if over or not answers(pod):
            continue
        pool = _elsewhere(facts, pod, ledger)
        if over is None and pool is None:
            continue
        stays.append(pod)
        if over is None and pool is not None and not facts.migrations and not asked:
            asked.append(_wanted(facts, pod, pool))
    if not stays:
        return grant, None
    kept = Counter(p.pool for p in stays)
    replicas = {p: grant.replicas.get(p, 0) + kept[p] for p in {*grant.replicas, *kept}}
    given = grant.given_up - {p.uid for p in stays}
    return replace(grant, replicas=replicas, given_up=given), (asked[0] if asked else None)


def _wanted(facts: ServiceFacts, pod: Pod, pool: str) -> Wanted:
    owner, words = facts.body["metadata"]["uid"], "others are entitled to its place"
    return Wanted(facts.key, owner, pod.name, pod.uid, MoveReason.RECLAIM, {"pool": pool}, words)


def _elsewhere(facts: ServiceFacts, pod: Pod, ledger: Ledger) -> str | None:
    """Return another pool that has room for a replica now, the preferred first."""
    for pool in facts.pools:
        if pool.name != pod.pool and placement.room(pool, facts.shapes[pool.name], ledger, most=1):
            return pool.name
    return None
