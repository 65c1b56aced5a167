"""Small fleets for stories about sharing: pools of nodes, and services that hold replicas there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from conch.api.pool import GPUPoolSpec
from conch.decisions import placement
from conch.decisions.fleet import Amounts, Node, Pool, ServiceKey, Shape
from conch.decisions.placement import Ledger
from conch.decisions.shares import Claim, Grant, Holding, Shares, Tenant, share

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

    def free(self) -> Ledger:
        """Return what is free now."""
        free = Ledger()
        for claim in self.claims.values():
            for h in (*claim.held, *claim.surplus):
                kind = self._pool(h.pool).spec.resource_name
                free.book(str(h.node), claim.shapes[h.pool].need, kind)
        return free

    def decide(self, leaving: Mapping[str, float] | None = None) -> Shares:
        """Decide once, and change nothing."""
        return share(
            self.tenants.values(),
            self.claims.values(),
            self.pools,
            free=self.free(),
            now=self.now,
            leaving=leaving,
        )

    def step(self, seconds: float = 60.0) -> Shares:
        """Let time pass, decide, and carry it out: what is free first, then what is taken back."""
        self.now += seconds
        found = self.decide()
        self._start(found)
        for name, claim in self.claims.items():
            kept = [h for h in claim.held if h.id not in found.grants[claim.key].given_up]
            self.moved += len(claim.held) - len(kept)
            self.claims[name] = replace(claim, held=tuple(kept[: claim.wished]))
        self._start(found)
        return found

    def settle(self, most: int = 50) -> None:
        """Step until nothing changes. Raises AssertionError where it never does."""
        for _ in range(most):
            before = {n: c.held for n, c in self.claims.items()}
            self.step()
            if before == {n: c.held for n, c in self.claims.items()}:
                return
        raise AssertionError("it does not come to rest")

    def _start(self, found: Shares) -> None:
        free = self.free()
        for name in sorted(self.claims):
            claim = self.claims[name]
            grant = found.grants[claim.key]
            staying = [h for h in claim.held if h.id not in grant.given_up]
            for where, count in grant.replicas.items():
                there = sum(h.pool == where for h in staying)
                for _ in range(min(count - there, claim.wished - len(staying))):
                    node = placement.choose(self._pool(where), claim.shapes[where], free)
                    if node is None:
                        break
                    free.book(node, claim.shapes[where].need, self._pool(where).spec.resource_name)
                    self._born += 1
                    staying.append(Holding(f"pod-{self._born}", where, node, self.now))
                    claim = replace(claim, held=(*claim.held, staying[-1]))
            self.claims[name] = claim

    def _pool(self, name: str) -> Pool:
        return next(p for p in self.pools if p.name == name)


def of(shares: Shares, name: str) -> Grant:
    """Return the grant of a service TENANT/NAME (or NAME)."""
    namespace, _, short = name.rpartition("/")
    return shares.grants[ServiceKey(namespace or short, short)]


def world(*tenants: Tenant, gpus: int = 8, **spec: object) -> World:
    """Return one node of so many GPUs, shared by these tenants."""
    return World([pool("a100", [gpus], **spec)], {t.name: t for t in tenants})


def a_has_all(*tenants: Tenant, gpus: int = 8, **spec: object) -> World:
    """Return the same after tenant a took everything."""
    here = world(*tenants, gpus=gpus, **spec)
    here.want("a", gpus)
    here.settle()
    return here
