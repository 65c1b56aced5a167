"""An operator on a model of Kubernetes: it sees late, crashes between two writes, loses races.

Preconditions (UID, resourceVersion) are honoured as by the API server. Every step asserts what may
never happen; ``settle`` runs everything until nothing changes.
"""

from dataclasses import dataclass, field, replace
from itertools import pairwise

from conch.api.pool import GPUPoolSpec
from conch.api.service import ModelServiceSpec
from conch.decisions import placement, repair, replicas
from conch.decisions.fleet import Amounts, Node, Pod, Pool, ReplicaSet, Service, ServiceKey, Shape
from conch.decisions.placement import Ledger
from conch.decisions.repair import Repair
from conch.decisions.replicas import DRAIN_SETTLE_S
from conch.decisions.rolling import Course
from conch.decisions.steps import Plan
from tests.property.kube_model import (
    Kubernetes,
    ModelNode,
    ModelPod,
    ModelService,
    ModelSet,
    SetKey,
)

GPU = "nvidia.com/gpu"


class Crashed(Exception):  # noqa: N818 - it is an end, not an error
    """The operator dies here."""


class Conflict(Exception):  # noqa: N818 - the API server's word
    """A precondition of a write does not hold."""


@dataclass
class Seen:
    """What the operator knows: each kind as of its last refresh, and the answers to its writes."""

    pods: dict[str, ModelPod] = field(default_factory=dict)
    sets: dict[SetKey, ModelSet] = field(default_factory=dict)
    nodes: dict[str, ModelNode] = field(default_factory=dict)


@dataclass
class World(Kubernetes):
    writes: int = 0
    seen: Seen = field(default_factory=Seen)
    patience: float = 20.0
    """pending_timeout, in seconds."""
    front_door: bool = False
    """Whether requests come through one, which tells of them at once, but for those in ``untold``."""
    untold: set[str] = field(default_factory=set)
    """Pods that it has not told of yet."""
    drain_timeout: float = 12.0
    repairs: dict[str, Repair] = field(default_factory=dict)
    replaced: list[tuple[str, float]] = field(default_factory=list)
    """Services, and when a replica of theirs was given up since it answered nothing."""

    # --- the operator ---------------------------------------------------------------------------

    def refresh(self, *kinds: str) -> None:
        """The operator hears what happened to these kinds until now."""
        if "pods" in kinds:
            self.seen.pods = {k: replace(v) for k, v in self.pods.items()}
        if "sets" in kinds:
            self.seen.sets = {k: replace(v) for k, v in self.sets.items()}
        if "nodes" in kinds:
            self.seen.nodes = {k: replace(v) for k, v in self.nodes.items()}

    def refresh_all(self) -> None:
        self.refresh("pods", "sets", "nodes")

    def tick(self, crash_after: int | None = None) -> list[Plan]:
        """Decide for the fleet and write; die after so many writes when told to."""
        left = self.writes + crash_after if crash_after is not None else None
        plans = self.plans()
        for name, plan in plans.items():
            self._check(name, plan)
        self._check_capacity(plans)
        try:
            for name, plan in plans.items():
                self._execute(name, plan, left)
        except Crashed:
            self.refresh_all()
        return list(plans.values())

    def plans(self, *, backwards: bool = False) -> dict[str, Plan]:
        """Return what the operator would do now, by service; with its inputs in another order."""
        ledger = Ledger()
        pools = self.pools(backwards=backwards)
        views = {n: self.view(n, backwards=backwards) for n in sorted(self.services)}
        for name, view in views.items():
            replicas.book_admitted(view, self._pools(name, pools), self.shapes(name), ledger)
        return {
            name: self._plan(name, view, self._pools(name, pools), ledger)
            for name, view in views.items()
        }

    def _plan(self, name: str, view: Service, pools: tuple[Pool, ...], ledger: Ledger) -> Plan:
        """Return the next step of a service, as the operator decides it."""
        shapes, wanted = self.shapes(name), self.services[name].wanted
        whole = repair.mending(
            view,
            wanted,
            held=sum(sum(view.tally(p.name)) for p in pools),
            most=wanted + 1,
            free=any(placement.room(p, shapes[p.name], ledger, most=1) for p in pools),
        )
        service = self.services[name]
        course = Course(service.tried, whole=service.few is None) if service.trial else None
        plan = replicas.plan(
            view,
            whole.replicas,
            pools=pools,
            shapes=shapes,
            ledger=ledger,
            now=self.now,
            course=course,
        )
        if whole.delete is None or whole.delete in (*plan.deletions, *plan.drains):
            return plan
        return replace(plan, deletions=(*plan.deletions, whole.delete))

    def _pools(self, name: str, pools: tuple[Pool, ...]) -> tuple[Pool, ...]:
        return tuple(p for p in pools if p.name in self.services[name].allowed)

    def pools(self, *, backwards: bool = False) -> tuple[Pool, ...]:
        """Return both pools, "a" preferred, with what the operator knows of their nodes."""
        step = -1 if backwards else 1
        nodes = [self._node(n) for _, n in sorted(self.seen.nodes.items())][::step]
        return tuple(
            Pool(
                name,
                GPUPoolSpec.model_validate({"accelerator": name, "nodeSelector": {"pool": name}}),
                tuple(n for n in nodes if n.labels["pool"] == name),
            )
            for name in ("a", "b")
        )

    def _node(self, node: ModelNode) -> Node:
        bound = [p for p in self.seen.pods.values() if p.node == node.name]
        return Node(
            name=node.name,
            labels={"pool": node.pool},
            ready=node.ready,
            schedulable=not node.cordoned,
            taints=(),
            allocatable={GPU: float(node.gpus), "pods": 110.0},
            requested={GPU: float(sum(p.gpus for p in bound))},
            pods=len(bound),
        )

    def shapes(self, name: str) -> dict[str, Shape]:
        shape = Shape(Amounts(gpus=self.services[name].gpus, pods=1), ())
        return {"a": shape, "b": shape}

    def view(self, name: str, *, backwards: bool = False) -> Service:
        service = self.services[name]
        step = -1 if backwards else 1
        pods = [self._pod(p) for p in self.seen.pods.values() if p.key[0] == name]
        sets = [_set_view(s) for s in self.seen.sets.values() if s.key[0] == name]
        scaling = {
            "pendingTimeout": f"{self.patience}s",
            "drainTimeout": f"{self.drain_timeout}s",
        }
        spec = {"model": {"name": "m"}, "scaling": scaling}
        found = Service(
            key=ServiceKey("ns", name),
            spec=ModelServiceSpec.model_validate(spec),
            revision=service.revision,
            serving_revision=service.serving,
            trial=service.trial,
            sets=tuple(sorted(sets, key=lambda s: s.name)[::step]),
            pods=tuple(sorted(pods, key=lambda p: p.name)[::step]),
        )
        before = self.repairs.get(name, Repair())
        after = repair.looked_at(found, before, self.now, load_seconds=1.0)
        self.repairs[name] = after
        if after.uid not in (None, before.uid):
            self.replaced.append((name, self.now))
        return repair.marked(found, after)

    def _pod(self, pod: ModelPod) -> Pod:
        return Pod(
            name=pod.uid,
            uid=pod.uid,
            resource_version=str(pod.version),
            revision=pod.key[1],
            pool=pod.key[2],
            created=pod.created,
            node=pod.node,
            gated=pod.gated,
            pinned=pod.pinned,
            ready=pod.ready,
            serving=pod.serving,
            draining_since=pod.draining_since,
            deleting=pod.deleting,
            unschedulable="no node fits" if pod.unschedulable else None,
            lost=pod.node is not None and pod.node not in self.seen.nodes,
            stranded=self._is_silent(pod.node) and not pod.ready,
            in_flight=self._in_flight(pod),
            broken="silent" if self._is_broken(pod) else None,
        )

    def _is_broken(self, pod: ModelPod) -> bool:
        real = self.pods.get(pod.uid)
        return self.front_door and real is not None and real.broken

    def _in_flight(self, pod: ModelPod) -> int | None:
        """Return what the operator heard of a pod's requests; without a front door of none."""
        if not self.front_door or pod.draining_since is None:
            return 0
        real = self.pods.get(pod.uid, pod)
        return None if pod.uid in self.untold else real.requests

    def _is_silent(self, name: str | None) -> bool:
        node = self.seen.nodes.get(name or "")
        return node is not None and not node.ready

    def _execute(self, name: str, plan: Plan, left: int | None) -> None:
        """Write a plan in the executor's order; a conflict ends this service's part."""
        try:
            self._promote(name, plan.serving_revision, left)
            for wish in plan.sets:
                key = (name, wish.revision, wish.pool)
                self._write_set(key, wish.replicas, gated=wish.gated, left=left)
            for admission in plan.admissions:
                pod = self._writable(admission.pod, left)
                pod.gated, pod.pinned = False, admission.node
                self._answer(pod)
            for view in plan.restores:
                self._label(view, left, serving=True, since=None)
            for view in plan.drains:
                self._label(view, left, serving=False, since=self.now)
            for view in plan.deletions:
                self._delete(view, left)
            for old in plan.retired:
                self._retire((name, old.revision, old.pool), left)
        except Conflict:
            pass

    def _spend(self, left: int | None) -> None:
        if left is not None and self.writes >= left:
            raise Crashed
        self.writes += 1

    def _promote(self, name: str, revision: str | None, left: int | None) -> None:
        service = self.services[name]
        if revision is not None and service.serving != revision:
            self._spend(left)
            service.serving = revision

    def _write_set(self, key: SetKey, count: int, *, gated: bool, left: int | None) -> None:
        known = self.seen.sets.get(key)
        if known is not None and (known.replicas, known.gated) == (count, gated):
            return
        self._spend(left)
        real = self.sets.setdefault(key, ModelSet(key, count, gated, generation=0))
        if known is not None and count < known.replicas and known.version != real.version:
            raise Conflict
        if (real.replicas, real.gated) != (count, gated) or real.generation == 0:
            real.replicas, real.gated = count, gated
            real.generation += 1
            real.version += 1
        self.seen.sets[key] = replace(real)

    def _writable(self, view: Pod, left: int | None) -> ModelPod:
        self._spend(left)
        real = self.pods.get(view.uid)
        if real is None or str(real.version) != view.resource_version:
            raise Conflict
        return real

    def _answer(self, pod: ModelPod) -> None:
        pod.version += 1
        self.seen.pods[pod.uid] = replace(pod)

    def _label(self, view: Pod, left: int | None, *, serving: bool, since: float | None) -> None:
        pod = self._writable(view, left)
        pod.serving, pod.draining_since = serving, since
        self._answer(pod)

    def _delete(self, view: Pod, left: int | None) -> None:
        if view.lost and view.node in self.nodes:
            # The executor asks for the node once more; the answer goes into the store.
            self.seen.nodes[view.node] = replace(self.nodes[view.node])
            return
        if view.uid not in self.pods:
            return  # 404 is no error
        pod = self._writable(view, left)
        if pod.node in self.nodes:
            assert pod.broken or not pod.traffic, f"a pod in use was deleted: {pod}"
            if pod.ready and pod.draining_since is not None:
                waited = self.now - pod.draining_since
                assert waited >= DRAIN_SETTLE_S, f"too early: {pod}"
                busy = self.front_door and (pod.requests > 0 or pod.uid in self.untold)
                assert not busy or waited >= self.drain_timeout, f"requests are cut: {pod}"
        self.lose(pod)

    def _retire(self, key: SetKey, left: int | None) -> None:
        self._spend(left)
        real = self.sets.pop(key, None)
        self.seen.sets.pop(key, None)
        orphans = [p for p in self.pods.values() if p.key == key and not p.deleting]
        assert real is None or not orphans, f"a ReplicaSet with pods was deleted: {orphans}"

    # --- what may never be planned --------------------------------------------------------------

    def _check(self, name: str, plan: Plan) -> None:
        """Judge a plan by what the operator knew: its own steps may not cost answers."""
        service, view = self.services[name], self.view(name)
        before = [p for p in view.pods if _answers(p) and p.revision == view.serving_revision]
        hit = {p.uid for p in (*plan.drains, *plan.deletions)}
        after = [
            p
            for p in view.pods
            if _answers(p) and p.revision == plan.serving_revision and p.uid not in hit
        ]
        enough = min(len(before), service.wanted)
        # Where GPUs are short, an update gives up one replica after the other, never the last.
        if plan.shortage and service.revision != service.serving:
            enough = min(enough, 1)
        if service.trial is not None and service.few is not None:
            enough = min(enough, max(1, len(before) - 1))
        assert len(after) >= enough, f"{len(before)} answered, {len(after)} are left by {plan}"
        for pod in plan.deletions:
            used = pod.ready and pod.serving and not pod.deleting
            assert pod.lost or pod.replaced or not used, f"deletes a pod in use: {pod}"
        assert sum(p.replaced for p in view.pods) <= 1, f"several at a time: {view.pods}"
        times = [at for of, at in self.replaced if of == name]
        assert all(b - a >= repair.APART for a, b in pairwise(times)), f"too soon: {times}"

    def _check_capacity(self, plans: dict[str, Plan]) -> None:
        """No node gets more than it has, by what the operator knew."""
        for node in self.seen.nodes.values():
            held = [p for p in self.seen.pods.values() if self._holds(p, node.name)]
            given = [
                (self.services[name].gpus, a)
                for name, plan in plans.items()
                for a in plan.admissions
                if a.node == node.name
            ]
            if given:
                total = sum(p.gpus for p in held) + sum(gpus for gpus, _ in given)
                assert total <= node.gpus, f"{node} gets {total} GPUs: {given}"
                assert not node.cordoned, f"{node} is cordoned: {given}"
                assert node.ready, f"{node} is silent: {given}"

    def _holds(self, pod: ModelPod, node: str) -> bool:
        """Tell whether a pod has or was promised its place on a node.

        What leaves a pool that its service may no longer use is not booked there: should it be
        bound first, the other one is placed again.
        """
        promised = pod.node is None and pod.pinned == node and not pod.gated and not pod.deleting
        here = pod.key[2] in self.services[pod.key[0]].allowed
        return pod.node == node or (promised and here)

    # --- rest -----------------------------------------------------------------------------------

    def settle(self, rounds: int = 80) -> None:
        """Everything runs on, undisturbed, until nothing changes; assert that it comes to that."""
        quiet = 0
        for pod in self.pods.values():
            pod.broken = False
        for _ in range(rounds):
            before = self.frozen()
            self.refresh_all()
            self.tick()
            for key in sorted(self.sets):
                self.sync(key)
            self.schedule()
            self.start()
            self.finish()
            self.now += DRAIN_SETTLE_S + 1
            quiet = quiet + 1 if self.frozen() == before else 0
            if quiet > self.patience / DRAIN_SETTLE_S:
                return
        raise AssertionError(f"no rest after {rounds} rounds: {self}")

    def frozen(self) -> tuple[object, ...]:
        """Return the state as a value, without the time."""
        return (
            tuple(repr(p) for _, p in sorted(self.pods.items())),
            tuple(repr(s) for _, s in sorted(self.sets.items())),
            tuple(repr(s) for _, s in sorted(self.services.items())),
            tuple(repr(n) for _, n in sorted(self.nodes.items())),
        )

    def check_rest(self) -> None:
        """Assert what holds once all is quiet: zero writes, no gate, everything that fits runs."""
        self.refresh_all()
        before = self.writes
        plans = self.plans()
        self.tick()
        assert self.writes == before, f"writes at rest: {plans}"
        for found in self.sets.values():
            assert not found.gated, f"a gate at rest: {found}"
        for name, plan in plans.items():
            self._check_service(name, plan)

    def _check_service(self, name: str, plan: Plan) -> None:
        service = self.services[name]
        mine = [p for p in self.pods.values() if p.key[0] == name]
        running = [p for p in mine if p.traffic and p.key[1] == service.serving]
        assert not any(p.gated for p in mine), f"gated pods at rest: {mine}"
        if self.quota is None and len(running) != service.wanted:
            assert plan.shortage, f"{len(running)} of {service.wanted} run, nothing is short"
            ledger = Ledger()
            shapes = self.shapes(name)
            for pool in self._pools(name, self.pools()):
                room = placement.room(pool, shapes[pool.name], ledger, most=1)
                assert not room, f"{service} is short, and {pool.name} has room"
        if not plan.shortage and self.quota is None:
            assert service.serving == service.revision, f"{service} never got its revision"
        if service.trial is not None and self.quota is None:
            self._check_trial(service, mine, running)

    def _check_trial(
        self, service: ModelService, mine: list[ModelPod], running: list[ModelPod]
    ) -> None:
        """Assert that a revision on trial has what it may have."""
        tried = [p for p in mine if p.traffic and p.key[1] == service.trial]
        assert len(tried) <= service.tried, f"too many on trial: {tried}"
        if len(tried) == service.tried:
            return
        shapes, ledger = self.shapes(service.name), Ledger()
        for pool in self._pools(service.name, self.pools()):
            room = placement.room(pool, shapes[pool.name], ledger, most=1)
            assert not room, f"{service} lacks replicas on trial, and {pool.name} has room"
        only = len(running) <= 1 or service.few is None
        assert only, f"nothing made way for {service.trial}: {running}, {tried}"


def _answers(pod: Pod) -> bool:
    return pod.ready and pod.serving and not pod.deleting and not pod.lost and not pod.broken


def _set_view(found: ModelSet) -> ReplicaSet:
    return ReplicaSet(
        name="-".join(found.key),
        uid="-".join(found.key),
        revision=found.key[1],
        pool=found.key[2],
        replicas=found.replicas,
        gated=found.gated,
        observed=found.observed >= found.generation,
        refusal=found.refusal,
    )
