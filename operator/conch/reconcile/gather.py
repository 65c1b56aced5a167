"""From the store to the frozen fleet that decisions take. Pure but for its caches of parsed specs."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from conch.api.base import KubeModel
from conch.api.conditions import Reason
from conch.api.model import ModelSpec
from conch.api.names import (
    API_VERSION,
    LABEL_REVISION,
)
from conch.api.pool import GPUPoolSpec
from conch.api.service import ModelServiceSpec, Placement
from conch.api.signals import Key
from conch.api.tenant import PriorityRange
from conch.clients.resources import CHILDREN, CLAIM_TEMPLATE
from conch.decisions import moving
from conch.decisions.fleet import (
    Amounts,
    Misfit,
    Node,
    Pod,
    Pool,
    ReplicaSet,
    Service,
    ServiceKey,
    Shape,
    misfit,
    ordered,
)
from conch.decisions.rolling import Rollout
from conch.provisioning import resources
from conch.provisioning.coexistence import Coexistence
from conch.provisioning.metadata import Owner, bounded
from conch.provisioning.pod import pod_template
from conch.provisioning.snapshot import Snapshot
from conch.reconcile import views
from conch.reconcile.migrations import Filed, Files, files
from conch.reconcile.node_cache import claim_state
from conch.reconcile.overlaps import overlaps
from conch.reconcile.pools import usable, with_nodes
from conch.reconcile.resolve import Fault, Resolved, parsed, resolve, stored
from conch.reconcile.revisions import Choice, Runs, chosen
from conch.reconcile.rollout_status import stored as stored_rollout
from conch.reconcile.settings import Settings
from conch.reconcile.store import Store, leaving, version_of
from conch.reconcile.tenants import Tenancy, tenancy

Object = dict[str, Any]
V = TypeVar("V", Pod, ReplicaSet)


@dataclass(frozen=True)
class ServiceFacts:
    """One ModelService, ready to be decided on."""

    body: Object
    owner: Owner
    spec: ModelServiceSpec
    service: Service
    resolved: Resolved | None
    fault: Fault | None
    """Why no revision can be made now; what runs goes on."""
    snapshots: dict[str, Snapshot]
    """By revision: what its pods are made from."""
    pools: tuple[Pool, ...]
    shapes: dict[str, Shape]
    children: Mapping[str, tuple[Object, ...]]
    """What carries the service's label, by kind."""
    versions: tuple[object, ...]
    """Of everything that the facts come from, but for what is free on nodes."""
    migrations: tuple[Filed, ...] = ()
    """Those that are not over, the oldest first."""
    rollout: Rollout | None = None
    """The last one, as the status tells it."""
    trial_shapes: dict[str, Shape] = field(default_factory=dict)
    """Those of a revision on trial, if there is one."""
    choice: Choice = field(default_factory=lambda: Choice(None))

    @cached_property
    def key(self) -> ServiceKey:
        """Namespace and name."""
        return self.service.key

    @cached_property
    def signal_keys(self) -> Mapping[str, Key]:
        """By pool: whose signals count there, those of the revision with the traffic."""
        service = self.service
        serving, name = service.serving_revision or service.counted, bounded(service.key.name)
        return {
            p.name: Key(service.key.namespace, name, serving, bounded(p.name)) for p in self.pools
        }

    def with_pools(self, pools: tuple[Pool, ...]) -> "ServiceFacts":
        """Return the same with pools as they are now. Cheap: each service needs it in each tick."""
        found = copy.copy(self)
        found.__dict__["pools"] = pools
        return found

    @property
    def gpus(self) -> int:
        """What a replica asks for, wherever GPUs are."""
        return _gpus(self.snapshots, self.service.revision or self.service.serving_revision)


@dataclass(frozen=True)
class FleetFacts:
    """Everything of one tick."""

    pools: tuple[Pool, ...]
    pool_faults: dict[str, Fault]
    services: tuple[ServiceFacts, ...]
    broken: tuple[tuple[Object, Fault], ...]
    """ModelServices whose spec can't be read."""
    overlaps: Mapping[str, str] = field(default_factory=dict)
    """By pool: which others count devices of its nodes too, in words."""
    migrations: Files = field(default_factory=Files)


@dataclass
class Gatherer:
    """Builds the facts of a tick; parses each spec once a version."""

    store: Store
    settings: Settings
    _parsed: dict[tuple[type[Any], str, int], Any] = field(default_factory=dict)
    _parts: dict[tuple[object, ...], KubeModel] = field(default_factory=dict)
    _nodes: frozenset[str] = frozenset()
    _silent: frozenset[str] = frozenset()
    _platform: tuple[object, ...] = ()
    _overlaps: Mapping[str, str] = field(default_factory=dict)
    _to_leave: Mapping[str, Node] = field(default_factory=dict)
    """Nodes that say so, by name."""
    _tenancy: Tenancy = field(default_factory=lambda: Tenancy({}, {}))
    """Known where other controllers are told of it."""
    _tenants: tuple[int, ...] = ()
    """Versions of what it was made from."""
    _views: dict[str, tuple[object, Node]] = field(default_factory=dict)
    """By name, of the last tick, with what each was made from."""
    _facts: dict[str, ServiceFacts] = field(default_factory=dict)
    """By UID, of the last tick: what did not change since is not looked through again."""
    _requests: dict[str, tuple[str, dict[str, float]]] = field(default_factory=dict)
    _shapes: dict[tuple[str, str, str, int], Shape] = field(default_factory=dict)
    _alike: dict[tuple[Amounts, str], Shape] = field(default_factory=dict)
    _resolutions: dict[tuple[object, ...], Resolved | Fault] = field(default_factory=dict)
    _stored: dict[tuple[object, ...], Snapshot | None] = field(default_factory=dict)
    _orders: dict[tuple[object, ...], tuple[Pool, ...]] = field(default_factory=dict)
    """Of this tick: the pools by what a service wishes of them."""
    _migrations: Mapping[ServiceKey, tuple[Filed, ...]] = field(default_factory=dict)
    """Of this tick, those that are not over."""

    def gather(self) -> FleetFacts:
        """Return the fleet as the store knows it now."""
        nodes = tuple(self.store.all("Node"))
        self._nodes = frozenset(n["metadata"]["name"] for n in nodes)
        self._silent = frozenset(n["metadata"]["name"] for n in nodes if views.is_silent(n))
        pools, faults = self._pools(nodes)
        self._orders.clear()
        self._look_at_tenants()
        self._to_leave = moving.to_leave(pools)
        says = tuple((n.name, n.schedulable, n.taints) for n in self._to_leave.values())
        those = ((p.name, p.spec, p.nodes_key) for p in pools)
        platform = (self._nodes, self._silent, says, *those)
        # The same object while it says the same, so that it is compared at once.
        if platform != self._platform:
            self._platform, self._overlaps = platform, overlaps(pools)
        services, broken, moves = {}, [], files(self.store, self._parse)
        self._migrations = moves.by_service()
        for body in self.store.all("ModelService"):
            if leaving(body):
                continue
            spec = self._parse(ModelServiceSpec, body)
            if isinstance(spec, Fault):
                broken.append((body, spec))
                continue
            services[body["metadata"]["uid"]] = self._service(body, spec, pools)
        self._facts = services
        self._forget()
        return FleetFacts(
            pools, faults, tuple(services.values()), tuple(broken), self._overlaps, moves
        )

    def _parse(self, model: type[Any], body: Object) -> Any:
        """Parse a spec once for each generation of an object."""
        key = model, *_edition(body)
        if key not in self._parsed:
            self._parsed[key] = self._shared(parsed(model, body.get("spec")))
        return self._parsed[key]

    def _shared(self, spec: Any) -> Any:
        """Return a spec whose parts are the same objects as those of other specs that equal them."""
        for name, part in vars(spec).items():
            if isinstance(part, KubeModel):
                says = part.model_dump_json(), part.model_dump_json(exclude_unset=True)
                vars(spec)[name] = self._parts.setdefault((type(part), *says), part)
        return spec

    def _forget(self, most: int = 50_000) -> None:
        caches: tuple[dict[Any, Any], ...] = (
            self._parsed,
            self._parts,
            self._shapes,
            self._alike,
            self._requests,
            self._resolutions,
            self._stored,
        )
        for cache in caches:
            if len(cache) > most:
                cache.clear()

    def _asks(self, pod: Object) -> dict[str, float]:
        """Return what a pod asks for, read once for each of its versions."""
        metadata = pod["metadata"]
        known = self._requests.get(metadata["uid"])
        if known is None or known[0] != metadata["resourceVersion"]:
            known = (metadata["resourceVersion"], views.requests_of(pod))
            self._requests[metadata["uid"]] = known
        return known[1]

    def _pools(self, bodies: Iterable[Object]) -> tuple[tuple[Pool, ...], dict[str, Fault]]:
        """Return the pools with their nodes, of which ``bodies`` are all; and what is wrong with others."""
        specs: dict[str, GPUPoolSpec] = {}
        faults: dict[str, Fault] = {}
        for body in self.store.all("GPUPool"):
            spec = self._parse(GPUPoolSpec, body)
            if not isinstance(spec, Fault):
                spec = usable(spec, dra=self.settings.dra)
            known: dict[str, Any] = faults if isinstance(spec, Fault) else specs
            known[body["metadata"]["name"]] = spec
        self._views = {body["metadata"]["name"]: self._node(body) for body in bodies}
        nodes = [node for _, node in self._views.values()]
        return with_nodes(specs, nodes, self.store), faults

    def _node(self, body: Object) -> tuple[object, Node]:
        """Return a node's view, the last one where nothing changed since, with what it was made from."""
        name = body["metadata"]["name"]
        made_from = body["metadata"]["uid"], version_of(body), self.store.node_stamp(name)
        known = self._views.get(name)
        if known is not None and known[0] == made_from:
            return known
        bound = filter(views.holds, self.store.bound(name))
        return made_from, views.node_view(body, map(self._asks, bound), self.settings.node_signs)

    def _look_at_tenants(self) -> None:
        """Learn whom namespaces belong to, where other controllers are told."""
        if self.settings.others == Coexistence():
            return
        bodies = tuple(self.store.all("Tenant"))
        versions = tuple(version_of(b) for b in bodies)
        if versions != self._tenants:
            facts, owners, _ = tenancy(bodies, self._tenancy.facts)
            self._tenancy, self._tenants = Tenancy(facts, owners), versions

    def _told(self, namespace: str) -> tuple[str, PriorityRange] | None:
        """Return what others are told of a namespace: its tenant, which bounds its priorities."""
        facts = self._tenancy.facts.get(self._tenancy.of(namespace))
        return None if facts is None else (facts.name, facts.spec.priorities)

    def _service(
        self,
        body: Object,
        spec: ModelServiceSpec,
        pools: tuple[Pool, ...],
    ) -> ServiceFacts:
        """Return the facts of a service: those of the last tick where nothing changed since."""
        model, key = self._model(body, spec), child_key(body)
        moves = self._migrations.get(ServiceKey(key[0], body["metadata"]["name"]), ())
        versions = (
            self._platform,
            version_of(body),
            model and (model["metadata"]["uid"], version_of(model)),
            claim_state(self.store, body["metadata"]["namespace"]),
            self._told(body["metadata"]["namespace"]),
            self.store.stamp(key),
            tuple(m.version for m in moves),
        )
        known = self._facts.get(body["metadata"]["uid"])
        if known is not None and known.versions == versions:
            return known.with_pools(self._ordered(pools, spec, known.gpus))
        own = (*CHILDREN, *((CLAIM_TEMPLATE,) if self.settings.dra else ()))
        children = {k: self.store.family(k, key) for k in ("Pod", *own)}
        return self._fresh(body, spec, pools, children, versions)

    def _fresh(
        self,
        body: Object,
        spec: ModelServiceSpec,
        pools: tuple[Pool, ...],
        children: Mapping[str, tuple[Object, ...]],
        versions: tuple[object, ...],
    ) -> ServiceFacts:
        resolved, fault = self._resolved(body, spec)
        wish = resolved.snapshot if resolved else None
        snapshots = self._snapshots(body, spec, children["ControllerRevision"], wish)
        if resolved:
            name = resolved.snapshot.revision
            # A revision that exists keeps the images it was made with.
            kept = snapshots.get(name, resolved.snapshot)
            snapshots[name] = kept.following(spec)
        snapshots = {n: self._installed(s) for n, s in snapshots.items()}
        metadata = body["metadata"]
        names = {bounded(p.name): p.name for p in pools}
        set_views = tuple(
            _in_pool(views.replica_set_view(s), names) for s in children["ReplicaSet"]
        )
        pod_views = tuple(
            _in_pool(views.pod_view(p, self._nodes, self._silent), names) for p in children["Pod"]
        )
        selector = self._serving(metadata["namespace"], metadata["name"])
        asked = resolved.snapshot.revision if resolved else None
        runs = Runs(selector, set_views, pod_views, stored_rollout(body))
        choice = chosen(body, spec, asked, snapshots, runs)
        service = Service(
            key=ServiceKey(metadata["namespace"], metadata["name"]),
            spec=spec,
            revision=choice.revision,
            serving_revision=choice.serving,
            sets=set_views,
            pods=pod_views,
            trial=choice.trial,
        )
        wanted = service.revision or service.serving_revision
        allowed = self._ordered(pools, spec, _gpus(snapshots, wanted))
        tried = snapshots.get(choice.trial or "")
        current = snapshots.get(wanted or "", tried)
        shapes = {p.name: self._shape(current, p) for p in allowed} if current else {}
        return ServiceFacts(
            body=body,
            owner=Owner(API_VERSION, "ModelService", metadata["name"], metadata["uid"]),
            spec=spec,
            service=moving.marked(service, self._to_leave, shapes),
            resolved=resolved,
            fault=fault,
            snapshots=snapshots,
            pools=allowed,
            shapes=shapes,
            children=children,
            versions=versions,
            migrations=self._migrations.get(service.key, ()),
            rollout=runs.rollout,
            trial_shapes={p.name: self._shape(tried, p) for p in allowed} if tried else {},
            choice=choice,
        )

    def _ordered(
        self, pools: tuple[Pool, ...], spec: ModelServiceSpec, gpus: int
    ) -> tuple[Pool, ...]:
        """Return the pools that a service may use; worked out once a tick for each wish."""
        wish = spec.placement
        names = tuple(map(tuple, (wish.pools, wish.accelerators, wish.sites)))
        key = (names, wish.cpu, gpus)
        if key not in self._orders:
            self._orders[key] = ordered(pools, spec, gpus=gpus)
        return self._orders[key]

    def _installed(self, snapshot: Snapshot) -> Snapshot:
        """Return a snapshot with what this installation adds to it."""
        here, told = snapshot.through(self.settings.endpoints), self._told(snapshot.namespace)
        marked = here.beside(self.settings.others, tenant=told and told[0])
        bounded_by = self._tenancy.priority(snapshot.namespace, marked.priority)
        return replace(marked, priority=bounded_by)

    def _model(self, body: Object, spec: ModelServiceSpec) -> Object | None:
        namespace = body["metadata"]["namespace"] if spec.model.kind == "Model" else ""
        return self.store.get(spec.model.kind, spec.model.name, namespace)

    def _resolved(
        self, body: Object, spec: ModelServiceSpec
    ) -> tuple[Resolved | None, Fault | None]:
        model = self._model(body, spec)
        key = (_edition(body), model and _edition(model))
        result = self._resolutions.get(key)
        if result is None:
            result = self._resolutions[key] = resolve(
                body,
                spec,
                model,
                images=self.settings.images,
                file_prefixes=self.settings.file_prefixes,
                model_spec=None if model is None else self._parse(ModelSpec, model),
            )
        return (None, result) if isinstance(result, Fault) else (result, None)

    def _snapshots(
        self,
        body: Object,
        spec: ModelServiceSpec,
        revisions: Iterable[Object],
        wish: Snapshot | None,
    ) -> dict[str, Snapshot]:
        """Return what the revisions' pods are made from; each is read once for a spec.

        What the revision that is wished for says again is kept once.
        """
        found = {}
        for revision in revisions:
            name = revision["metadata"]["labels"].get(LABEL_REVISION, "")
            key = (_edition(body), revision["metadata"]["uid"])
            if key not in self._stored:
                made = stored(revision, body, spec, name)
                self._stored[key] = made.alike(wish) if made and wish else made
            snapshot = self._stored[key]
            if snapshot is not None:
                found[name] = snapshot
        return found

    def _serving(self, namespace: str, name: str) -> str | None:
        service = self.store.get("Service", name, namespace)
        if service is None:
            return None
        revision = (service.get("spec", {}).get("selector") or {}).get(LABEL_REVISION)
        return str(revision) if revision else None

    def _shape(self, snapshot: Snapshot, pool: Pool) -> Shape:
        key = (
            snapshot.namespace,
            snapshot.service,
            f"{snapshot.revision}/{pool.name}/{','.join(snapshot.zones)}",
            hash(pool.spec.model_dump_json()),
        )
        if key not in self._shapes:
            shape = shape_of(snapshot, pool)
            # Many services ask for the same.
            self._shapes[key] = self._alike.setdefault((shape.need, shape.suits), shape)
        return self._shapes[key]


def shape_of(snapshot: Snapshot, pool: Pool) -> Shape:
    """Return what a replica of the revision asks of a node of the pool."""
    template = pod_template(snapshot, resources.Pool(pool.name, pool.spec), gated=False)
    spec, wanted = template["spec"], views.requests_of(template)
    return Shape(
        need=Amounts(
            gpus=round(wanted.get(pool.spec.resource_name, 0.0)),
            cpu=wanted.get("cpu", 0.0),
            memory=wanted.get("memory", 0.0),
            pods=1,
        ),
        tolerations=tuple(spec.get("tolerations") or ()),
        node_selector=spec.get("nodeSelector") or {},
        zones=snapshot.zones,
    )


def _in_pool(view: V, names: Mapping[str, str]) -> V:
    """Return the view with the pool's name, which a label may hold shortened."""
    name = names.get(view.pool, view.pool)
    return view if name == view.pool else replace(view, pool=name)


def child_key(body: Object) -> tuple[str, str]:
    """Return the namespace and the service label of a ModelService's children."""
    return body["metadata"]["namespace"], bounded(body["metadata"]["name"])


def _gpus(snapshots: Mapping[str, Snapshot], revision: str | None) -> int:
    """Return what a replica of a revision asks for; one GPU where that is not known yet."""
    snapshot = snapshots.get(revision or "")
    return snapshot.variant.resources.gpus if snapshot else 1


def _edition(body: Object) -> tuple[str, int]:
    """Return what changes with an object's spec, and not with its status."""
    metadata = body["metadata"]
    return metadata["uid"], int(metadata.get("generation", version_of(body)))


def unknown_pools(facts: ServiceFacts, fleet: FleetFacts) -> Fault | None:
    """Return why no pool suits a service at all, or None when one does."""
    if facts.pools:
        without = [p for p in facts.pools if not p.nodes and not p.spec.elastic]
        if len(without) < len(facts.pools):
            return None
        parts = []
        for pool in without:
            labels = ", ".join(f"{k}={v}" for k, v in sorted(pool.spec.node_selector.items()))
            parts.append(f"pool {pool.name}: no node carries {labels}")
        return Fault(Reason.POOL_WITHOUT_NODES, "; ".join(parts))
    there = ", ".join(_described(p, facts.spec.placement, facts.gpus) for p in fleet.pools)
    if not there:
        unusable = "; ".join(f"{n}: {f.message}" for n, f in sorted(fleet.pool_faults.items()))
        none = "there is no GPUPool; apply one that selects the nodes to use"
        return Fault(Reason.NO_POOL, f"no GPUPool can be used: {unusable}" if unusable else none)
    wish = facts.spec.placement
    asked = [*wish.pools, *wish.accelerators, *(f"site {s}" for s in wish.sites)]
    asks = f": placement asks for {', '.join(asked)}" if asked else ""
    return Fault(Reason.NO_POOL, f"no GPUPool suits{asks}; there are: {there}")


def _described(pool: Pool, wish: Placement, gpus: int) -> str:
    """Return a pool in words, and why it may not be used where its name does not tell."""
    why = misfit(pool, wish, gpus=gpus)
    more = f"; {why}" if why not in (None, Misfit.NOT_NAMED) else ""
    return f"{pool.name} ({pool.spec.accelerator}{more})"
