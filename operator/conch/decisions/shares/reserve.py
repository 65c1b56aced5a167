"""GPUs that are kept for tenants that lend none of their quota."""

from collections import defaultdict
from collections.abc import Mapping

from conch.decisions.shares.books import Books
from conch.decisions.shares.claims import Claim

_SMALL = 1e-9


class Reserve:
    """What of the free GPUs is kept, and for whom; one for a pass or a part of it."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._keepers = [t for t in books.tenants.values() if t.quota and not t.lending]
        self._free = self._counted() if self._keepers else {}

    def _counted(self) -> dict[str, float]:
        """Return the GPUs that are free by accelerator; a node of two pools counts once."""
        free: dict[str, float] = defaultdict(float)
        seen: set[tuple[str, str, str]] = set()
        for pool in self._books.pools.values():
            accelerator = pool.spec.accelerator
            if pool.spec.elastic:
                free[accelerator] = float("inf")
            for node in pool.nodes:
                key = (accelerator, pool.spec.resource_name, node.name)
                if node.ready and node.schedulable and key not in seen:
                    seen.add(key)
                    free[accelerator] += pool.gpus_of(
                        max(0, self._books.free.free(node, pool).gpus)
                    )
        return free

    def leaves(self, claim: Claim, pool: str, coming: float = 0.0) -> bool:
        """Tell whether enough stays free for the others' quotas after one more replica.

        ``coming``: GPUs that others give up for it. One that takes none of what is free is no matter
        of this.
        """
        gpus = self._books.gpus_in(claim, pool) - coming
        if not self._keepers or gpus <= _SMALL:
            return True
        accelerator = self._books.pools[pool].spec.accelerator
        kept = sum(self.kept(accelerator, claim.tenant).values())
        return self._free[accelerator] - gpus >= kept - _SMALL

    def kept(self, accelerator: str, tenant: str) -> Mapping[str, float]:
        """Return the GPUs that are kept from a tenant, by whom they are kept for."""
        held = self._books.gpus
        missing = {
            t.name: t.quota.get(accelerator, 0.0) - held[t.name, accelerator]
            for t in self._keepers
            if t.name != tenant
        }
        return {name: gpus for name, gpus in missing.items() if gpus > _SMALL}

    def took(self, claim: Claim, pool: str, coming: float = 0.0) -> None:
        """Note that a replica was granted."""
        if self._keepers:
            accelerator = self._books.pools[pool].spec.accelerator
            self._free[accelerator] += coming - self._books.gpus_in(claim, pool)
