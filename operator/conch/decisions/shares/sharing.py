"""The decision: what each service may have now, out of what all hold and wish for."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from conch.api.conditions import Reason
from conch.decisions import placement
from conch.decisions.fleet import Pool, ServiceKey
from conch.decisions.placement import Ledger
from conch.decisions.shares.books import Books, opened
from conch.decisions.shares.claims import Claim, Grant, Shares, Tenant
from conch.decisions.shares.handing import hand_out
from conch.decisions.shares.measure import Fleet
from conch.decisions.shares.reserve import Reserve
from conch.decisions.shares.taking import take_back


def share(
    tenants: Iterable[Tenant],
    claims: Iterable[Claim],
    pools: Iterable[Pool],
    *,
    free: Ledger,
    now: float,
    leaving: Mapping[str, float] | None = None,
    fleet: Fleet | None = None,
) -> Shares:
    """Return the grants of all services, and where each tenant stands.

    ``free``: what is free, and what comes free by itself, such as under replicas that drain; bookings
    are written into it. ``fleet``: the size of it, where it is known. ``leaving``: GPUs of each pool that Conch is taking back already. ``now`` in
    seconds since the epoch. The same facts give the same grants, in whatever order they come.
    """
    books = opened(tenants, claims, pools, free=free, now=now, fleet=fleet)
    limited = hand_out(books)
    take_back(books, leaving or {})
    reserve, largest = Reserve(books), _largest(books)
    return Shares(
        grants={c.key: _grant(books, c, limited, reserve, largest) for c in books.claims},
        standings=books.standings(),
        free=books.free,
    )


def _largest(books: Books) -> Mapping[str, Sequence[str]]:
    """Return by pool the two tenants with the largest shares, of those that hold anything there."""
    holders: dict[str, set[str]] = defaultdict(set)
    for claim in books.claims:
        for pool in claim.held_by_pool:
            holders[pool].add(claim.tenant)
    return {
        pool: heapq.nsmallest(2, tenants, key=lambda t: (-books.share(t), t))
        for pool, tenants in holders.items()
    }


def _grant(
    books: Books,
    claim: Claim,
    limited: set[ServiceKey],
    reserve: Reserve,
    largest: Mapping[str, Sequence[str]],
) -> Grant:
    reason, message = _why(books, claim, limited, reserve, largest)
    return Grant(
        replicas=dict(books.granted[claim.key]),
        given_up=frozenset(books.gone.get(claim.key, ())),
        reason=reason,
        message=message,
    )


def _why(
    books: Books,
    claim: Claim,
    limited: set[ServiceKey],
    reserve: Reserve,
    largest: Mapping[str, Sequence[str]],
) -> tuple[Reason | None, str]:
    """Return why a service gets no more, where that is a matter of shares."""
    if not books.missing(claim) or not books.options(claim):
        return None, ""
    tenant = books.tenants[claim.tenant]
    if claim.key in limited:
        return Reason.TENANT_LIMIT, _limit(books, claim, tenant)
    others = {t for pool in books.options(claim) for t in largest.get(pool, ())} - {claim.tenant}
    kept = _kept(books, claim, reserve)
    if kept:
        return Reason.AWAITING_SHARE, kept
    if not others:
        return None, ""
    return Reason.AWAITING_SHARE, (
        f"no GPU is free that tenant {tenant.name} may have now: it holds "
        f"{_standing(books, tenant.name)}; the largest share has {_most_above(books, others)}"
    )


def _kept(books: Books, claim: Claim, reserve: Reserve) -> str:
    """Return what is free and kept for others, in words; empty where it would be of no use."""
    parts: dict[str, None] = {}
    for name in books.options(claim):
        pool, shape = books.pools[name], claim.shapes[name]
        if reserve.leaves(claim, name) or not placement.room(pool, shape, books.free, most=1):
            continue
        accelerator = pool.spec.accelerator
        for whose, gpus in sorted(reserve.kept(accelerator, claim.tenant).items()):
            parts[f"{gpus:g} {accelerator} of tenant {whose}"] = None
    return f"what is free is kept for quotas that are not lent: {', '.join(parts)}" if parts else ""


def _standing(books: Books, tenant: str) -> str:
    held, entitled = books.held.get(tenant, 0.0), books.entitled.get(tenant, 0.0)
    share = f", a share of {held / entitled:.2f}" if entitled > 0 else ""
    return f"{held:.3g} of the {entitled:.3g} GPUs (of speed 1) that it is entitled to{share}"


def _most_above(books: Books, tenants: set[str]) -> str:
    first = min(tenants, key=lambda t: (-books.share(t), t))
    return f"{first} with {_standing(books, first)}"


def _limit(books: Books, claim: Claim, tenant: Tenant) -> str:
    parts = []
    for accelerator in sorted({books.pools[p].spec.accelerator for p in books.options(claim)}):
        held, most = books.gpus[tenant.name, accelerator], tenant.most(accelerator)
        if most < float("inf"):
            parts.append(f"{held:g} of {most:g} {accelerator}")
    what = "limit" if tenant.borrowing and tenant.preemptible else "quota, and may not borrow"
    return f"tenant {tenant.name} is at its {what}: it holds {', '.join(parts)}"
