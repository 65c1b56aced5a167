"""ModelMigrations as the store has them, and what their statuses say. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from conch.api.base import parse_duration
from conch.api.conditions import Condition, ConditionType, Reason, Wish, updated
from conch.api.migration import (
    ModelMigrationSpec,
    ModelMigrationStatus,
    MoveReason,
    Phase,
    PhaseTime,
)
from conch.api.names import API_VERSION, LABEL_SERVICE
from conch.decisions.fleet import ServiceKey
from conch.decisions.migrating import Migration, Next
from conch.provisioning.metadata import bounded
from conch.reconcile.resolve import Fault, parsed
from conch.reconcile.store import Store, leaving
from conch.reconcile.views import seconds_of

Object = dict[str, Any]
KIND = "ModelMigration"


@dataclass(frozen=True)
class Filed:
    """A migration, and the object that it is read from."""

    body: Object
    migration: Migration

    @property
    def key(self) -> ServiceKey:
        """The service whose replica it moves."""
        return ServiceKey(self.body["metadata"]["namespace"], self.migration.spec.service)

    @property
    def version(self) -> tuple[str, str]:
        """What tells one state of the object from another."""
        metadata = self.body["metadata"]
        return metadata["uid"], metadata["resourceVersion"]


@dataclass(frozen=True)
class News:
    """What the status of a migration is to say."""

    body: Object
    status: Object
    phase: Phase
    message: str


@dataclass(frozen=True)
class Files:
    """All migrations."""

    filed: tuple[Filed, ...] = ()
    broken: tuple[tuple[Object, Fault], ...] = ()
    """Those that can't be read."""

    def by_service(self) -> Mapping[ServiceKey, tuple[Filed, ...]]:
        """Return those that are not over, by service, the oldest first."""
        found: dict[ServiceKey, tuple[Filed, ...]] = {}
        for one in sorted(self.filed, key=lambda f: (f.migration.created, f.migration.name)):
            if not one.migration.over:
                found[one.key] = (*found.get(one.key, ()), one)
        return found

    def spent(self, now: float) -> Iterable[Object]:
        """Yield those that are over for longer than they are to stay."""
        for one in self.filed:
            move = one.migration
            if move.over and now - move.since >= parse_duration(move.spec.ttl):
                yield one.body


def files(store: Store, parse: Callable[[type[Any], Object], Any]) -> Files:
    """Return the migrations of a store; ``parse`` reads an object's spec, or says what is wrong."""
    filed, broken = [], []
    for body in store.all(KIND):
        if leaving(body):
            continue
        spec = parse(ModelMigrationSpec, body)
        if isinstance(spec, Fault):
            broken.append((body, spec))
        else:
            filed.append(Filed(body, _migration(body, spec)))
    return Files(tuple(filed), tuple(broken))


def _migration(body: Object, spec: ModelMigrationSpec) -> Migration:
    status = parsed(ModelMigrationStatus, body.get("status") or {})
    if isinstance(status, Fault):
        # Somebody else wrote it: what it was about is not known, and nothing is begun twice.
        status = ModelMigrationStatus(
            phase=Phase.ROLLED_BACK, message=f"its status can't be read: {status.message}"
        )
    created = seconds_of(body["metadata"]["creationTimestamp"])
    since = seconds_of(status.phases[-1].at) if status.phases else created
    return Migration(body["metadata"]["name"], spec, status, created, since)


def news(filed: Filed, step: Next, now: str) -> News | None:
    """Return what a migration's status is to say, None where it says so; ``now`` is ISO 8601."""
    status = status_of(filed, step, now)
    if status == (filed.body.get("status") or {}):
        return None
    return News(filed.body, status, step.phase, step.message)


def status_of(filed: Filed, step: Next, now: str) -> Object:
    """Return the status object of a migration, ready to be applied."""
    old, generation = filed.migration.status, int(filed.body["metadata"].get("generation", 0))
    phases = list(old.phases)
    if not phases or phases[-1].phase is not step.phase:
        phases.append(PhaseTime(phase=step.phase, at=now))
    found = parsed_conditions(filed.body)
    return ModelMigrationStatus(
        observed_generation=generation,
        phase=step.phase,
        source=step.source,
        target=step.target,
        phases=phases,
        warmth=step.warmth,
        message=step.message,
        conditions=updated(found, _wishes(step), generation=generation, now=now),
    ).to_dict()


def name_of(service: str, reason: MoveReason, uid: str) -> str:
    """Return the name of a migration of Conch's own: the same for the same replica and reason."""
    return bounded(f"{service[:36]}-{reason.lower()[:7]}-{uid[:8]}")


@dataclass(frozen=True)
class Wanted:
    """A move that Conch asks for itself."""

    service: ServiceKey
    owner_uid: str
    """UID of the ModelService."""
    pod: str
    uid: str
    """UID of the pod."""
    reason: MoveReason
    to: Mapping[str, str]
    because: str

    def to_object(self) -> Object:
        """Return the ModelMigration."""
        name = name_of(self.service.name, self.reason, self.uid)
        spec = {
            "service": self.service.name,
            "replica": self.pod,
            "to": dict(self.to),
            "reason": self.reason,
            "because": self.because[:1024],
            "ttl": "1h",
        }
        return manifest(self.service, self.owner_uid, name, spec)


def manifest(service: ServiceKey, owner_uid: str, name: str, spec: Object) -> Object:
    """Return a ModelMigration of a service, which goes with it; ``owner_uid`` is the service's."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": name,
            "namespace": service.namespace,
            "labels": {LABEL_SERVICE: bounded(service.name)},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "ModelService",
                    "name": service.name,
                    "uid": owner_uid,
                }
            ],
        },
        "spec": spec,
    }


def parsed_conditions(body: Object) -> list[Condition]:
    """Return the conditions of an object that can be read."""
    found = [parsed(Condition, c) for c in (body.get("status") or {}).get("conditions") or []]
    return [c for c in found if isinstance(c, Condition)]


def _wishes(step: Next) -> list[Wish]:
    done, text = step.phase is Phase.DONE, f"{step.phase}: {step.message}"
    back = step.phase is Phase.ROLLED_BACK
    reason = Reason.MOVED if done else Reason.ROLLED_BACK if back else Reason.MOVING
    return [
        Wish(ConditionType.READY, done, reason, text),
        Wish(ConditionType.RECONCILING, not step.phase.over, reason, text),
        Wish(ConditionType.STALLED, back, reason, text),
    ]
