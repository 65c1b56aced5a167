"""Carries out the plan of one service, in the order that keeps it serving."""

import logging
from typing import Any

from conch.api.names import LABEL_REVISION, LABEL_SERVICE
from conch.api.service import Disruption
from conch.decisions.fleet import ReplicaSet
from conch.decisions.replicas import Plan, SetPlan
from conch.provisioning import resources
from conch.provisioning.children import revision_children, service_children
from conch.provisioning.metadata import bounded
from conch.provisioning.replica_set import replica_set, replica_set_name
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.store import Store
from conch.reconcile.writer import Writer

logger = logging.getLogger(__name__)
Object = dict[str, Any]

_OF_REVISION = ("ControllerRevision", "ConfigMap", "PersistentVolumeClaim")


class Executor:
    """Turns plans into writes. ``execute`` raises ClusterError and NotLeaderError."""

    def __init__(self, writer: Writer, store: Store) -> None:
        self._writer = writer
        self._store = store

    async def execute(self, facts: ServiceFacts, plan: Plan, now: float) -> None:
        """Write what the plan says: what pods need first, what takes pods away last."""
        await self._children(facts, plan)
        for wish in plan.sets:
            await self._set(facts, wish)
        namespace = facts.key.namespace
        for admission in plan.admissions:
            await self._writer.admit(admission, namespace)
        for pod in plan.restores:
            await self._writer.restore(pod, namespace)
        for pod in plan.drains:
            await self._writer.drain(pod, namespace, now)
        for pod in plan.deletions:
            # A node may be known later than the pods on it: ask before one is called lost.
            if not pod.lost or await self._writer.is_gone("Node", pod.node or ""):
                await self._writer.delete_pod(pod)
        await self._retire(facts, plan)

    async def _children(self, facts: ServiceFacts, plan: Plan) -> None:
        needed = {s.revision for s in plan.sets if s.target > 0}
        if facts.service.revision:
            needed.add(facts.service.revision)
        for name in sorted(needed & facts.snapshots.keys()):
            number = self._number(facts, name)
            for child in revision_children(facts.snapshots[name], owner=facts.owner, number=number):
                # A revision's snapshot can't change, and a volume's source may not.
                fixed = child["kind"] != "ConfigMap"
                await (self._writer.ensure_there(child) if fixed else self._writer.ensure(child))
        serving = facts.snapshots.get(plan.serving_revision or "")
        if serving is not None:
            for child in service_children(serving, owner=facts.owner):
                await self._writer.ensure(child)
        await self._drop_budget(facts)

    async def _drop_budget(self, facts: ServiceFacts) -> None:
        if facts.spec.disruption is not Disruption.ALLOW:
            return
        budget = self._store.get("PodDisruptionBudget", facts.key.name, facts.key.namespace)
        if budget is not None and _belongs(budget, facts):
            await self._writer.delete("PodDisruptionBudget", budget)

    def _number(self, facts: ServiceFacts, revision: str) -> int:
        """Return the ordinal of a revision: its own, or one more than the newest."""
        numbers = {
            r["metadata"]["labels"].get(LABEL_REVISION): int(r.get("revision", 0))
            for r in self._of(facts, "ControllerRevision")
        }
        return numbers.get(revision, max(numbers.values(), default=0) + 1)

    def _of(self, facts: ServiceFacts, kind: str) -> list[Object]:
        """Return the children of a service of one kind."""
        return [
            body
            for body in self._store.all(kind)
            if body["metadata"].get("namespace") == facts.key.namespace and _belongs(body, facts)
        ]

    async def _set(self, facts: ServiceFacts, wish: SetPlan) -> None:
        snapshot = facts.snapshots.get(wish.revision)
        pool = next((p for p in facts.pools if bounded(p.name) == bounded(wish.pool)), None)
        live = self._live_set(facts, wish)
        if snapshot is None or pool is None:
            if live is not None:
                await self._writer.patch_set(live, replicas=wish.replicas, gated=wish.gated)
            return
        body = replica_set(
            snapshot,
            resources.Pool(pool.name, pool.spec),
            replicas=wish.replicas,
            gated=wish.gated,
            owner=facts.owner,
        )
        lowers = live is not None and wish.replicas < live["spec"].get("replicas", 0)
        await self._writer.ensure(body, guarded=lowers)

    def _live_set(self, facts: ServiceFacts, wish: SetPlan) -> Object | None:
        name = replica_set_name(facts.key.name, wish.revision, wish.pool)
        return self._store.get("ReplicaSet", name, facts.key.namespace)

    async def _retire(self, facts: ServiceFacts, plan: Plan) -> None:
        """Remove empty ReplicaSets of past revisions, then what only such a revision needed."""
        for old in plan.retired:
            await self._remove_set(facts, old)
        gone = {(s.revision, s.pool) for s in plan.retired}
        kept = {s.revision for s in facts.service.sets if (s.revision, s.pool) not in gone}
        kept |= {facts.service.revision or "", plan.serving_revision or ""}
        kept |= {facts.service.serving_revision or ""}
        if facts.service.revision is None:
            return
        for kind in _OF_REVISION:
            for body in self._of(facts, kind):
                revision = body["metadata"]["labels"].get(LABEL_REVISION)
                if revision and revision not in kept:
                    await self._writer.delete(kind, body)

    async def _remove_set(self, facts: ServiceFacts, old: ReplicaSet) -> None:
        body = self._store.get("ReplicaSet", old.name, facts.key.namespace)
        if body is not None:
            await self._writer.delete("ReplicaSet", body)


def _belongs(body: Object, facts: ServiceFacts) -> bool:
    labels = body["metadata"].get("labels") or {}
    return bool(labels.get(LABEL_SERVICE) == bounded(facts.key.name))
