"""Which accelerator suits whom: where pools are short, whoever gains the most from one goes first.

As Gavel (Narayanan et al., Heterogeneity-Aware Cluster Scheduling Policies, OSDI 2020) compares
effective throughputs, in a form that needs no solver: each service's rates are taken relative to its
own, and a pool is worth more to those whose part there is above the others' mean.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from conch.decisions.fleet import ServiceKey
from conch.decisions.shares.books import Books
from conch.decisions.shares.claims import Claim


def suited(books: Books) -> Mapping[ServiceKey, Sequence[str]]:
    """Return the pools of each service that lacks replicas, the one that suits it best first.

    A user's own order stands. So does the usual one (the faster pool first) where no pool is short,
    and in any case what comes first of pools with GPUs and those without.
    """
    short = [c for c in books.claims if books.missing(c) > 0]
    options = {c.key: books.options(c) for c in short}
    choosy = [c for c in short if c.indifferent and len(options[c.key]) > 1]
    if not choosy or not _contended(books, short, options):
        return options
    parts = {c.key: _parts(books, c, options[c.key]) for c in choosy}
    means = _means(list(parts.values()))
    for claim in choosy:
        mine = parts[claim.key]
        usual = options[claim.key]
        first = books.pools[usual[0]].without_gpus
        options[claim.key] = sorted(
            usual,
            key=lambda p: (
                books.pools[p].without_gpus is not first,
                -mine[p] / means[p],
                usual.index(p),
            ),
        )
    return options


def _contended(
    books: Books, short: Sequence[Claim], options: Mapping[ServiceKey, Sequence[str]]
) -> bool:
    """Tell whether the pools that services like best have less room than is missing there."""
    wanted: dict[str, float] = defaultdict(float)
    for claim in short:
        if options[claim.key]:
            first = options[claim.key][0]
            wanted[first] += books.missing(claim) * claim.shapes[first].need.gpus
    return any(gpus > _room(books, pool) for pool, gpus in wanted.items())


def _room(books: Books, name: str) -> float:
    pool = books.pools[name]
    if pool.spec.elastic:
        return float("inf")
    return sum(max(0, books.free.free(node, pool).gpus) for node in pool.nodes)


def _parts(books: Books, claim: Claim, options: Sequence[str]) -> Mapping[str, float]:
    """Return a service's rate for a GPU in each pool, as a part of its rates in all of them."""
    rates = {}
    for pool in options:
        speed = books.pools[pool].spec.relative_speed
        # A pool without a measured rate counts by its speed, in the measure of those that have one.
        unit = _unit(books, claim)
        rate = claim.rates.get(pool, unit * speed)
        rates[pool] = rate / max(books.gpus_in(claim, pool), 1e-3)
    total = sum(rates.values()) or 1.0
    return {pool: rate / total for pool, rate in rates.items()}


def _unit(books: Books, claim: Claim) -> float:
    """Return the slowest measured rate at a relative speed of 1; 1 where nothing was measured."""
    known = [
        r / books.pools[p].spec.relative_speed for p, r in claim.rates.items() if p in books.pools
    ]
    return min(known, default=1.0)


def _means(parts: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Return the mean part of each pool, over those that may use it."""
    found: dict[str, list[float]] = defaultdict(list)
    for of in parts:
        for pool, part in of.items():
            found[pool].append(part)
    return {pool: max(sum(of) / len(of), 1e-9) for pool, of in found.items()}
