"""What users are told of a service: its status, and Events for what changed in it."""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from conch.api.conditions import Condition, Reason
from conch.api.migration import Phase
from conch.clients.clock import iso
from conch.clients.cluster import ClusterError
from conch.clients.events import Recorder
from conch.decisions.fleet import ServiceKey
from conch.decisions.moving import movable
from conch.reconcile import status as statuses
from conch.reconcile.exposition import ServiceFigures, figures
from conch.reconcile.migrations import KIND, News
from conch.reconcile.settings import FrontDoor
from conch.reconcile.status import Outcome
from conch.reconcile.store import key_of
from conch.reconcile.writer import Writer

logger = logging.getLogger(__name__)
Object = dict[str, Any]

_TOLD = ("Ready", "Admitted", "Loaded", "ScalingActive")
_QUIET = (Reason.SCALING, Reason.FIXED_REPLICAS, Reason.PAUSED, Reason.NO_READY_REPLICA)
"""Reasons that are no news: scaling that works is told by its steps, and a start by its end."""
SCALED_UP, SCALED_DOWN = "ScaledUp", "ScaledDown"
"""Reasons of the Events about another number of wanted replicas."""
WORDS_LAST_S = 60.0
"""Words of conditions that tell of no trouble are renewed no more often than this: they carry
numbers that change with each scrape, and a status of each service each few seconds would keep a
large fleet's API server busy with nothing else."""


@dataclass(frozen=True)
class _Told:
    """What needed no write."""

    signature: object
    figures: ServiceFigures
    written: float


class Teller:
    """Writes statuses and Events. ``tell`` raises ClusterError and NotLeaderError."""

    def __init__(
        self, writer: Writer, recorder: Recorder, front_door: FrontDoor | None = None
    ) -> None:
        """``front_door``: through which services are reached, where there is one."""
        self._front_door = front_door
        self._writer = writer
        self._recorder = recorder
        self._wanted: dict[ServiceKey, int] = {}
        self._written: dict[ServiceKey, float] = {}
        """When a status was last written; where that is unknown, when it was first found right."""
        self._told: dict[ServiceKey, _Told] = {}
        self._replaced: dict[ServiceKey, str] = {}
        """The replica whose replacement was told last."""
        self._leaving: dict[ServiceKey, frozenset[str]] = {}
        """The replicas that are to leave their nodes, as was told last."""

    def told(self, outcome: Outcome, now: float) -> ServiceFigures | None:
        """Return a service's figures where they were told already and lately, else None."""
        known = self._told.get(outcome.facts.key)
        if known is None or known.signature != statuses.signature(outcome):
            return None
        return known.figures if now - known.written < WORDS_LAST_S else None

    async def tell(
        self, outcome: Outcome, now: float, *, more_coming: bool = False
    ) -> ServiceFigures:
        """Write the status of a service, and Events for what changed in it.

        With ``more_coming`` only a condition's news are worth a write. ``now`` is in seconds since
        the epoch.
        """
        key, body = outcome.facts.key, outcome.facts.body
        await self.tell_of(outcome.migrations, body)
        status = statuses.service_status(outcome, iso(now), self._front_door)
        shown, old = figures(outcome, status), body.get("status") or {}
        if more_coming and _verdicts(old) == _verdicts(status):
            return shown
        written = self._written.get(key, -math.inf)
        if now - written < WORDS_LAST_S and statuses.substance(old) == statuses.substance(status):
            self._told[key] = _Told(statuses.signature(outcome), shown, written)
            return shown
        await self._events(outcome, body, status)
        wrote = await self._writer.status("ModelService", body, status)
        if wrote or key not in self._written:
            self._written[key] = now
        if not wrote:
            self._told[key] = _Told(statuses.signature(outcome), shown, self._written[key])
        return shown

    async def tell_of(self, migrations: Iterable[News], service: Object | None = None) -> None:
        """Write what there is to tell of migrations, on them and on their service."""
        for news in migrations:
            old = (news.body.get("status") or {}).get("phase")
            try:
                await self._writer.status(KIND, news.body, news.status)
            except ClusterError as error:
                logger.warning("%s of %s: not told: %s", KIND, key_of(news.body), error)
                continue
            if old == news.phase:
                continue
            bad = news.phase is Phase.ROLLED_BACK
            await self._recorder.record(
                news.body, KIND, reason=news.phase, message=news.message, warning=bad
            )
            if service is not None and (news.phase.over or old is None):
                reason = Reason.ROLLED_BACK if bad else Reason.MOVED
                message = f"{news.body['metadata']['name']}: {news.message}"
                reason = reason if news.phase.over else Reason.MOVING
                await self._recorder.record(
                    service, "ModelService", reason=reason, message=message, warning=bad
                )

    async def _events(self, outcome: Outcome, body: Object, status: Object) -> None:
        key = outcome.facts.key
        if outcome.scaling is not None and outcome.wanted is not None:
            # What an earlier operator wanted is in the status.
            before = self._wanted.get(key, (body.get("status") or {}).get("desiredReplicas"))
            self._wanted[key] = outcome.wanted
            if before is not None and before != outcome.wanted:
                reason = SCALED_UP if outcome.wanted > before else SCALED_DOWN
                text = f"from {before} to {outcome.wanted} replicas"
                message = f"{text}: {statuses.scaling_wish(outcome).message}"
                await self._recorder.record(body, "ModelService", reason=reason, message=message)
        await self._replacements(outcome, body)
        await self._moves(outcome, body)
        for change in _transitions(body, status):
            await self._recorder.record(
                body,
                "ModelService",
                reason=change.reason,
                message=change.message,
                warning=change.status == "False",
            )

    async def _moves(self, outcome: Outcome, body: Object) -> None:
        """Tell of the replicas that are to leave their nodes, once."""
        key = outcome.facts.key
        leaving = frozenset(p.uid for p in movable(outcome.facts.service))
        if leaving - self._leaving.get(key, frozenset()):
            message = "; ".join(statuses.left_nodes(outcome))
            await self._recorder.record(body, "ModelService", reason=Reason.MOVING, message=message)
        if leaving:
            self._leaving[key] = leaving
        else:
            self._leaving.pop(key, None)

    async def _replacements(self, outcome: Outcome, body: Object) -> None:
        """Tell of each replica that is replaced since it answers nothing, once."""
        for pod in (p for p in outcome.facts.service.pods if p.replaced):
            if self._replaced.get(outcome.facts.key) != pod.uid:
                self._replaced[outcome.facts.key] = pod.uid
                reason, words = (
                    Reason.REPLICA_NOT_ANSWERING,
                    f"{pod.name} is replaced: {pod.broken}",
                )
                await self._recorder.record(
                    body, "ModelService", reason=reason, message=words, warning=True
                )

    def forget(self, kept: Iterable[ServiceKey]) -> None:
        """Drop what is remembered of all services but these."""
        for memory in (self._wanted, self._written, self._told, self._replaced, self._leaving):
            for key in memory.keys() - set(kept):
                del memory[key]


def _verdicts(status: Object | None) -> dict[str, tuple[str, str]]:
    """Return the status and the reason of each condition."""
    return {c["type"]: (c["status"], c["reason"]) for c in (status or {}).get("conditions") or ()}


def _transitions(body: Object, status: Object) -> Iterable[Condition]:
    """Return the conditions whose news deserve an Event, each cause once.

    Good news are that a service answers, and that a trouble is over.
    """
    old = _verdicts(body.get("status"))
    seen = set()
    for item in status["conditions"]:
        condition = Condition.model_validate(item)
        told = condition.type in _TOLD and condition.reason not in _QUIET
        changed = old.get(condition.type) != (condition.status, condition.reason)
        before, _ = old.get(condition.type, ("Unknown", ""))
        good = condition.status == "True" and (condition.type == "Ready" or before == "False")
        if told and changed and (good or condition.status == "False"):
            if condition.reason not in seen:
                yield condition
            seen.add(condition.reason)
