"""Carries out the plan of one service, in the order that keeps it serving."""

import logging
from collections.abc import Collection, Sequence
from typing import Any

from conch.api.names import LABEL_REVISION, LABEL_SERVICE
from conch.api.service import Disruption
from conch.clients.resources import CLAIM_TEMPLATE, NETWORK_POLICY
from conch.decisions.fleet import ReplicaSet, ServiceKey
from conch.decisions.steps import Plan, SetPlan
from conch.provisioning import resources
from conch.provisioning.children import revision_children, service_children
from conch.provisioning.device_claim import claim_template
from conch.provisioning.metadata import bounded
from conch.provisioning.network_policy import Isolation
from conch.provisioning.replica_set import replica_set, replica_set_name
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.node_cache import NodeCaches
from conch.reconcile.store import Store
from conch.reconcile.writer import Writer

logger = logging.getLogger(__name__)
Object = dict[str, Any]

_OF_REVISION = ("ControllerRevision", "ConfigMap", "PersistentVolumeClaim")


class Executor:
    """Turns plans into writes. ``execute`` raises ClusterError and NotLeaderError."""

    def __init__(
        self,
        writer: Writer,
        store: Store,
        caches: NodeCaches,
        isolation: Isolation | None = None,
    ) -> None:
        """``isolation``: who may reach the pods of services; None is anybody."""
        self._isolation = isolation
        self._writer = writer
        self._caches = caches
        self._store = store
        self._done: dict[ServiceKey, tuple[object, Plan]] = {}
        """The facts' versions and the plan that were carried out last, and needed no write."""

    def settled(self, facts: ServiceFacts, plan: Plan) -> bool:
        """Tell whether a plan needed no write when it was last looked at, for the same facts."""
        return self._done.get(facts.key) == (facts.versions, plan)

    async def execute(self, facts: ServiceFacts, plan: Plan, now: float) -> bool:
        """Write what the plan says: what pods need first, what takes pods away last.

        Tells whether anything was written.
        """
        if self.settled(facts, plan):
            return False
        self._done.pop(facts.key, None)
        wrote = await self._carry_out(facts, plan, now)
        if not wrote:
            self._done[facts.key] = (facts.versions, plan)
        return wrote

    async def _carry_out(self, facts: ServiceFacts, plan: Plan, now: float) -> bool:
        """Write what differs; tell whether anything did."""
        wrote = await self._caches.ensure(facts.key.namespace, facts.snapshots.values())
        wrote |= await self._children(facts, plan)
        for wish in plan.sets:
            wrote |= await self._set(facts, wish)
        wrote |= await self._pods(facts.key.namespace, plan, now)
        return await self._retire(facts, plan) or wrote

    async def _pods(self, namespace: str, plan: Plan, now: float) -> bool:
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
        return bool(plan.admissions or plan.restores or plan.drains or plan.deletions)

    async def _children(self, facts: ServiceFacts, plan: Plan) -> bool:
        needed = {s.revision for s in plan.sets if s.target > 0}
        if facts.service.revision:
            needed.add(facts.service.revision)
        wrote = False
        for name in sorted(needed & facts.snapshots.keys()):
            number = self._number(facts, name)
            made = revision_children(facts.snapshots[name], owner=facts.owner, number=number)
            for child in made:
                if not self._binds(child, made):
                    wrote = True  # there is more to do
                    continue
                # A revision's snapshot can't change, and a volume's source may not.
                fixed = child["kind"] != "ConfigMap"
                ensure = self._writer.ensure_there if fixed else self._writer.ensure
                wrote |= await ensure(child)
        serving = facts.snapshots.get(plan.serving_revision or "")
        if serving is not None:
            for child in service_children(
                serving, owner=facts.owner, isolation=self._isolation, canary=plan.canary
            ):
                if child["kind"] != "PodDisruptionBudget" or self._budgets(facts):
                    wrote |= await self._writer.ensure(child)
        if facts.spec.disruption is Disruption.ALLOW:
            wrote |= await self._drop("PodDisruptionBudget", facts)
        if self._isolation is None:
            wrote |= await self._drop(NETWORK_POLICY, facts)
        return wrote

    def _budgets(self, facts: ServiceFacts) -> bool:
        """Tell whether a budget has anything to protect, or is there already.

        One over pods that don't answer is nothing but work for its controller.
        """
        there = self._store.get("PodDisruptionBudget", facts.key.name, facts.key.namespace)
        return there is not None or any(p.ready for p in facts.service.pods)

    def _binds(self, child: Object, siblings: Sequence[Object]) -> bool:
        """Tell whether a claim would be bound at once; it is made as soon as it would.

        The binder of Kubernetes looks again only after 15 s at a claim whose volume it has not
        heard of yet. A volume with a phase is one that it has heard of.
        """
        if child["kind"] != "PersistentVolumeClaim":
            return True
        volumes = [s["metadata"]["name"] for s in siblings if s["kind"] == "PersistentVolume"]
        found = [self._store.get("PersistentVolume", name) or {} for name in volumes]
        return all(v.get("status", {}).get("phase") in ("Available", "Bound") for v in found)

    async def _drop(self, kind: str, facts: ServiceFacts) -> bool:
        """Delete a child of the service's name that it is to have no longer; tell if there was one."""
        child = self._store.get(kind, facts.key.name, facts.key.namespace)
        if child is None or not _belongs(child, facts):
            return False
        await self._writer.delete(kind, child)
        return True

    def _number(self, facts: ServiceFacts, revision: str) -> int:
        """Return the ordinal of a revision: its own, or one more than the newest."""
        numbers = {
            r["metadata"]["labels"].get(LABEL_REVISION): int(r.get("revision", 0))
            for r in facts.children["ControllerRevision"]
        }
        return numbers.get(revision, max(numbers.values(), default=0) + 1)

    async def _set(self, facts: ServiceFacts, wish: SetPlan) -> bool:
        snapshot = facts.snapshots.get(wish.revision)
        pool = next((p for p in facts.pools if bounded(p.name) == bounded(wish.pool)), None)
        live = self._live_set(facts, wish)
        if snapshot is None or pool is None:
            if live is None:
                return False
            return await self._writer.patch_set(live, replicas=wish.replicas, gated=wish.gated)
        place = resources.Pool(pool.name, pool.spec)
        body = replica_set(
            self._caches.applied(snapshot),
            place,
            replicas=wish.replicas,
            gated=wish.gated,
            owner=facts.owner,
        )
        claims = claim_template(snapshot, place, owner=facts.owner)
        wrote = claims is not None and await self._writer.ensure_there(claims)
        lowers = live is not None and wish.replicas < live["spec"].get("replicas", 0)
        return await self._writer.ensure_set(body, guarded=lowers) or wrote

    def _live_set(self, facts: ServiceFacts, wish: SetPlan) -> Object | None:
        name = replica_set_name(facts.key.name, wish.revision, wish.pool)
        return self._store.get("ReplicaSet", name, facts.key.namespace)

    async def _retire(self, facts: ServiceFacts, plan: Plan) -> bool:
        """Remove empty ReplicaSets of past revisions, then what only such a revision needed."""
        for old in plan.retired:
            await self._remove_set(facts, old)
        leftovers = _leftovers(facts, plan) if facts.service.revision else []
        leftovers += self._spent_claims(facts, plan)
        for kind, body in leftovers:
            await self._writer.delete(kind, body)
        return bool(plan.retired or leftovers)

    def _spent_claims(self, facts: ServiceFacts, plan: Plan) -> list[tuple[str, Object]]:
        """Return, with its kind, what no ReplicaSet has its pods' devices from any more."""
        known = facts.children.get(CLAIM_TEMPLATE, ())
        if not known:
            return []
        sets = [self._store.twin("ReplicaSet", body) for body in facts.children["ReplicaSet"]]
        sets += [self._live_set(facts, wish) for wish in plan.sets]
        named = {name for body in sets if body for name in _claims_of(body)}
        return [(CLAIM_TEMPLATE, c) for c in known if c["metadata"]["name"] not in named]

    async def _remove_set(self, facts: ServiceFacts, old: ReplicaSet) -> None:
        body = self._store.get("ReplicaSet", old.name, facts.key.namespace)
        if body is not None:
            await self._writer.delete("ReplicaSet", body)


def _leftovers(facts: ServiceFacts, plan: Plan) -> list[tuple[str, Object]]:
    """Return, with its kind, what belongs to revisions that have no ReplicaSet any more, nor will have one."""
    gone = {(s.revision, s.pool) for s in plan.retired}
    kept = {s.revision for s in facts.service.sets if (s.revision, s.pool) not in gone}
    kept |= {facts.service.revision or "", facts.service.newer or "", plan.serving_revision or ""}
    kept |= {facts.service.serving_revision or ""}
    past = _past(facts, kept)
    return [
        (kind, body)
        for kind in _OF_REVISION
        for body in facts.children[kind]
        if body["metadata"]["labels"].get(LABEL_REVISION)
        not in (None, *kept, *(past if kind == "ControllerRevision" else ()))
    ]


def _past(facts: ServiceFacts, kept: Collection[str]) -> list[str]:
    """Return the newest revisions that nothing needs and that one may go back to.

    One that was taken back is none of them.
    """
    names = {
        r["metadata"]["labels"].get(LABEL_REVISION, ""): int(r.get("revision", 0))
        for r in facts.children["ControllerRevision"]
    }
    past = sorted(names.keys() - {*kept, facts.choice.rejected or ""}, key=lambda n: -names[n])
    return past[: facts.spec.rollout.revision_history_limit]


def _claims_of(replica_set: Object) -> list[str]:
    claims = replica_set["spec"]["template"]["spec"].get("resourceClaims") or ()
    return [str(c.get("resourceClaimTemplateName")) for c in claims]


def _belongs(body: Object, facts: ServiceFacts) -> bool:
    labels = body["metadata"].get("labels") or {}
    return bool(labels.get(LABEL_SERVICE) == bounded(facts.key.name))
