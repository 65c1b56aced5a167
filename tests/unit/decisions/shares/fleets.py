"""Small fleets for stories about sharing: pools of nodes, and services that hold replicas there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from conch.api.pool import GPUPoolSpec
from conch.decisions.fleet import Amounts, Node, Pool, ServiceKey, Shape
from conch.decisions.placement import Ledger
from conch.decisions.shares import Claim, Holding, Shares, Tenant, share

GPU = "nvidia.com/gpu"
LONG_AGO = -1e6


def pool(name: str = "a100", nodes: Sequence[int] = (8,), **spec: object) -> Pool:
    """Return a pool whose nodes have so many GPUs each, and plenty of CPU and memory."""
    labels = {"pool": name}
    written = {"accelerator": name, "nodeSelector": labels, "disruptionBudget": "100%", **spec}
    return Pool(
        name,
        GPUPoolSpec.model_validate(written),
        tuple(
            Node(
                name=f"{name}-{n}",
                labels=labels,
                ready=True,
                schedulable=True,
                taints=(),
                allocatable={GPU: gpus, "cpu": 1000.0, "memory": 1e15, "pods": 1000.0},
                requested={},
                pods=0,
            )
            for n, gpus in enumerate(nodes)
        ),
    )


@dataclass
class World:
    """A fleet that carries out what is granted, at once: what drains is gone by the next pass."""

    pools: Sequence[Pool]
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    now: float = 0.0
    moved: int = 0
    _born: int = 0

    def want(
        self,
        name: str,
        wished: int,
        *,
        tenant: str | None = None,
        gpus: int = 1,
        pools: Iterable[str] | None = None,
        **more: object,
    ) -> None:
        """Let a service ``TENANT/NAME`` (or NAME) wish for so many replicas from now on."""
        of, _, short = name.rpartition("/")
        old = self.claims.get(name)
        if old is not None and not more:
            self.claims[name] = replace(old, wished=wished)
            return
        names = tuple(pools or (p.name for p in self.pools))
        shape = Shape(Amounts(gpus, 0.1, 1.0, 1), ())
        self.claims[name] = Claim(
            key=ServiceKey(of or short, short),
            tenant=tenant or of or short,
            wished=wished,
            pools=names,
            shapes=dict.fromkeys(names, shape),
            **{"load_seconds": 1.0, **more},  # type: ignore[arg-type]
        )

    def held(self, name: str) -> int:
        """Return the replicas of a service."""
        return len(self.claims[name].held)

    def of(self, tenant: str) -> int:
        """Return the replicas of a tenant."""
        return sum(len(c.held) for c in self.claims.values() if c.tenant == tenant)

    def decide(self) -> Shares:
        """Decide once, and change nothing."""
        free = Ledger()
        for claim in self.claims.values():
            for h in claim.held:
                free.book(str(h.node), claim.shapes[h.pool].need)
        return share(
            self.tenants.values(), self.claims.values(), self.pools, free=free, now=self.now
        )

    def step(self, seconds: float = 60.0) -> Shares:
        """Let time pass, decide, and carry it out."""
        self.now += seconds
        found = self.decide()
        for name, claim in self.claims.items():
            kept = [h for h in claim.held if h.id not in found.grants[claim.key].given_up]
            self.moved += len(claim.held) - len(kept)
            self.claims[name] = replace(claim, held=tuple(kept[: claim.wished]))
        for name in sorted(self.claims):
            self._start(name, found)
        return found

    def settle(self, most: int = 50) -> None:
        """Step until nothing changes. Raises AssertionError where it never does."""
        for _ in range(most):
            before = {n: c.held for n, c in self.claims.items()}
            self.step()
            if before == {n: c.held for n, c in self.claims.items()}:
                return
        raise AssertionError("it does not come to rest")

    def _start(self, name: str, found: Shares) -> None:
        claim = self.claims[name]
        for where, count in found.grants[claim.key].replicas.items():
            while len(self.claims[name].held) < claim.wished and (
                sum(h.pool == where for h in self.claims[name].held) < count
            ):
                node = self._node(where, claim.shapes[where].need)
                if node is None:
                    break
                self._born += 1
                new = Holding(f"pod-{self._born}", where, node, self.now)
                claim = replace(self.claims[name], held=(*self.claims[name].held, new))
                self.claims[name] = claim

    def _node(self, name: str, need: Amounts) -> str | None:
        there = next(p for p in self.pools if p.name == name)
        for node in there.nodes:
            left = node.free(there.spec.resource_name)
            for claim in self.claims.values():
                for h in claim.held:
                    if h.node == node.name:
                        left -= claim.shapes[h.pool].need
            if left.covers(need):
                return node.name
        return None
