"""A rollout, step by step: how many replicas and which share of the requests a new revision gets.

Replace    all replicas, then all requests: rollout.promotion says when
Canary     a few replicas and a share of the requests, judged (canary.judge) before the share grows
BlueGreen  all replicas, and no request before a person says so

What was decided stands in the service's status, from which the next tick goes on. While a canary has
no more than a share, or BlueGreen waits, the new revision is on trial: the old one is the one that is
wanted, scaled, moved and repaired, and the new one stands beside it (trial.py).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from conch.api.rollout import RolloutPhase, RolloutSpec, Strategy
from conch.decisions import canary
from conch.decisions.canary import Kind, Settings, Tally, Verdict
from conch.decisions.fleet import Service
from conch.decisions.rollout import ready

P = RolloutPhase
SETTLE_S = 5.0
"""For so long there has to be no place until the old revision gives up its last one."""
ALONE_S = 30.0
"""For so long a revision on trial answers, and the one before does not, until it is no trial any more."""


class Order(StrEnum):
    """What a person may ask for."""

    PROMOTE = "promote"
    ABORT = "abort"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout as it stands; times in seconds since the epoch."""

    revision: str
    stable: str | None
    phase: RolloutPhase
    began: float
    since: float
    """When it last came forward."""
    step: int | None = None
    """From 0."""
    percent: float | None = None
    swaps: bool = False
    """Whether the last replica of the old one goes for it, as there is no other place."""
    promoted: bool = False
    """Whether a person has said that it takes over without further judgement."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Course:
    """What a plan is to do about the new revision."""

    trial: int | None = None
    """Replicas of the revision on trial, where there is one; None: it stays as it is."""
    hold: bool = False
    """It is not to take over."""
    whole: bool = False
    """The old one gives up nothing for it."""
    percent: float | None = None
    """Of the requests, to it."""
    swap: bool = False
    """The last replica of the old one may go for it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a rollout besides its own state."""

    tallies: Mapping[str, Tally] | None
    """By revision: what requests came to since the step began; None: nobody counts."""
    door: bool
    """Whether there is a front door: it gives out shares of requests, and has them wait."""
    room: bool
    """Whether one more replica has a place."""
    p99: float | None
    """The objective (s)."""
    order: Order | None
    """What a person asks of this revision."""
    failure: str | None
    """Why its replicas do not start, as far as is known."""
    came: float | None = None
    """When its newest replica that is ready became so (seconds since the epoch)."""
    breaks: str | None = None
    """What callers of the old revision could not do with the new one, in words."""
    renamed: bool = False
    """Whether callers ask for a model of another name: then they can't be given to either."""


def begun(
    known: Rollout | None,
    service: Service,
    spec: RolloutSpec,
    now: float,
    *,
    undone: str | None = None,
) -> Rollout | None:
    """Return the rollout of the revision that is wanted; None where it has all there is.

    One that a person goes back to from another, which is ``undone``, is not judged again.
    """
    new, old = service.newer, service.serving_revision
    if new is None or old is None:
        return None
    if new == old:
        if known is None or known.revision != new or known.phase.over:
            return known
        text = f"revision {new} has taken over"
        return _moved(known, P.DONE, text, now, step=None, percent=None)
    if known is not None and known.revision == new and known.phase is not P.DONE:
        return known
    if undone is not None:
        text = f"somebody has undone revision {undone}"
        return Rollout(new, old, P.PROGRESSING, now, now, promoted=True, message=text)
    step = 0 if spec.strategy is Strategy.CANARY else None
    return Rollout(new, old, P.PROGRESSING, now, now, step, message="it starts")


def on_trial(known: Rollout | None, asked: str, spec: RolloutSpec) -> bool:
    """Tell whether a revision that is asked for, and has not the traffic, only stands beside it."""
    if known is None or known.revision != asked or known.phase is P.DONE:
        return spec.strategy in (Strategy.CANARY, Strategy.BLUE_GREEN)
    waits = known.step is not None or spec.strategy is Strategy.BLUE_GREEN
    return waits and not known.promoted and known.phase is not P.ROLLED_BACK


def advanced(
    rollout: Rollout, service: Service, spec: RolloutSpec, evidence: Evidence, now: float
) -> Rollout:
    """Return the rollout at ``now``, one step further at most."""
    if rollout.phase is P.DONE:
        return rollout
    ordered = _ordered(rollout, evidence.order, now)
    if ordered is not None:
        return ordered
    if rollout.phase is P.ROLLED_BACK:
        return rollout
    careful = spec.strategy is Strategy.CANARY and not rollout.promoted
    if careful and evidence.breaks is not None:
        text = (
            f"{evidence.breaks}; if callers know, kubectl conch rollout promote lets it take over"
        )
        return _back(rollout, text, now)
    if rollout.step is not None:
        return _stepped(rollout, service, spec, evidence, now)
    return _whole(rollout, service, spec, evidence, now)


def _ordered(rollout: Rollout, order: Order | None, now: float) -> Rollout | None:
    """Return what a person has made of a rollout; None where nothing of it is new."""
    if order is Order.ABORT and rollout.phase is not P.ROLLED_BACK:
        return _back(rollout, "somebody has aborted it", now)
    if order is Order.PROMOTE and not rollout.promoted:
        text = "somebody has promoted it: it takes over once all its replicas answer"
        moved = _moved(rollout, P.PROGRESSING, text, now, percent=rollout.percent)
        return replace(moved, promoted=True)
    if order is Order.PAUSE and not rollout.phase.over:
        return _told(rollout, P.PAUSED, "somebody has paused it", now)
    return None


def course(rollout: Rollout | None, service: Service, spec: RolloutSpec, wanted: int) -> Course:
    """Return what the plan is to do, where ``wanted`` replicas are to answer."""
    if rollout is None or rollout.phase is P.DONE or rollout.revision != service.newer:
        return Course()
    if rollout.phase is P.ROLLED_BACK:
        # Until it stands in the status that another one is to be.
        return Course(hold=True, whole=True)
    if service.trial is not None:
        return _beside(rollout, spec, wanted)
    hold = rollout.phase is P.PAUSED
    return Course(hold=hold, percent=rollout.percent, swap=rollout.swaps and not hold)


def _beside(rollout: Rollout, spec: RolloutSpec, wanted: int) -> Course:
    """Return how many replicas a revision on trial has, and which share of the requests."""
    if rollout.step is None:
        return Course(wanted, whole=True, percent=rollout.percent)
    steps = spec.canary.steps
    few = math.ceil(wanted * steps[min(rollout.step, len(steps) - 1)] / 100)
    return Course(min(max(1, few), wanted), percent=rollout.percent)


def _stepped(
    rollout: Rollout, service: Service, spec: RolloutSpec, evidence: Evidence, now: float
) -> Rollout:
    """Return a canary at its next step, where this one is over, or taken back."""
    steps, number = spec.canary.steps, rollout.step or 0
    if not evidence.door or evidence.renamed:
        why = "its model has another name" if evidence.door else "there is no front door"
        text = f"{why}, so that it can't get a share of the requests: it takes over whole"
        return _moved(rollout, P.PROGRESSING, text, now, step=None, percent=None)
    if number >= len(steps):
        return _moved(rollout, P.PROGRESSING, rollout.message, now, step=None, percent=None)
    if not ready(service, rollout.revision):
        told = f"step {number + 1} of {len(steps)}: its first replica starts"
        started = _told(rollout, P.PROGRESSING, told, now)
        return _timely(_without_room(started, service, evidence, now), evidence, spec, now)
    if _alone(rollout, service, evidence, now):
        return _unopposed(rollout, now)
    if rollout.percent != steps[number]:
        text = f"step {number + 1} of {len(steps)}: it gets {steps[number]:g} % of the requests"
        return _moved(rollout, P.PROGRESSING, text, now, step=number, percent=steps[number])
    return _judged(rollout, spec, evidence, now)


def _judged(rollout: Rollout, spec: RolloutSpec, evidence: Evidence, now: float) -> Rollout:
    steps, number = spec.canary.steps, rollout.step or 0
    verdict, errors = _verdict(rollout, spec, evidence)
    where = f"step {number + 1} of {len(steps)}, {steps[number]:g} % of the requests"
    lasted, text = now - rollout.since, f"{where}: {verdict.text}"
    if verdict.kind is Kind.WORSE:
        return _back(rollout, text, now)
    over = lasted >= spec.canary.seconds("step_time")
    calm = not errors and lasted >= spec.canary.seconds("patience")
    if (verdict.kind is Kind.FINE and over) or (evidence.tallies is not None and calm):
        last = number + 1 == len(steps)
        return _moved(
            rollout,
            P.PROGRESSING,
            text,
            now,
            step=None if last else number + 1,
            percent=rollout.percent,
        )
    # Words with new numbers each second would be a write each.
    known = rollout.message.startswith(where)
    told = rollout if known else _told(rollout, P.PROGRESSING, text, now)
    return _timely(told, evidence, spec, now)


def _verdict(rollout: Rollout, spec: RolloutSpec, evidence: Evidence) -> tuple[Verdict, int]:
    """Return what is to be thought of the new revision, and at how many requests it failed."""
    tallies = evidence.tallies or {}
    stable, new = tallies.get(rollout.stable or "", Tally()), tallies.get(rollout.revision, Tally())
    settings = Settings(confidence=spec.canary.confidence)
    return canary.judge(stable, new, p99=evidence.p99, settings=settings), new.errors


def _whole(
    rollout: Rollout, service: Service, spec: RolloutSpec, evidence: Evidence, now: float
) -> Rollout:
    """Return a rollout whose revision comes up whole."""
    there = ready(service, rollout.revision)
    if _alone(rollout, service, evidence, now):
        return _unopposed(rollout, now)
    if spec.strategy is Strategy.BLUE_GREEN and not rollout.promoted:
        old = ready(service, rollout.stable or "")
        if there >= max(1, old):
            text = "all its replicas answer: kubectl conch rollout promote gives it the requests"
            return _told(rollout, P.WAITING, text, now)
        started = _told(rollout, P.PROGRESSING, "its replicas start", now)
        return _timely(_without_room(started, service, evidence, now), evidence, spec, now)
    if rollout.phase is P.PAUSED:
        return _moved(rollout, P.PROGRESSING, "it goes on", now, percent=rollout.percent)
    if rollout.percent is not None and evidence.tallies is not None and not rollout.promoted:
        verdict, _ = _verdict(rollout, spec, evidence)
        if verdict.kind is Kind.WORSE:
            return _back(rollout, f"while it took over: {verdict.text}", now)
    told = rollout if there else _choice(rollout, service, evidence, now)
    return _timely(told, evidence, spec, now)


def _alone(rollout: Rollout, service: Service, evidence: Evidence, now: float) -> bool:
    """Tell whether a revision on trial answers, and has for a while, where the one before does not."""
    if service.trial is None or not ready(service, rollout.revision):
        return False
    came = evidence.came if evidence.came is not None else now
    return not ready(service, rollout.stable or "") and now - max(came, rollout.since) >= ALONE_S


def _unopposed(rollout: Rollout, now: float) -> Rollout:
    text = "no replica of the revision before answers: it takes over unjudged"
    return replace(_moved(rollout, P.PROGRESSING, text, now), promoted=True)


def _without_room(rollout: Rollout, service: Service, evidence: Evidence, now: float) -> Rollout:
    """Return a rollout that says so where a revision on trial finds no GPU."""
    if _placed(rollout, service) or evidence.room or now - rollout.since < SETTLE_S:
        return rollout
    way = "kubectl conch rollout promote replaces the revision that serves as it is"
    if rollout.step is None:
        text = f"no GPU is free for all of it beside the revision that serves; {way}"
    elif ready(service, rollout.stable or "") > 1:
        text = "no GPU is free: the revision that serves gives up a replica for it"
    else:
        text = f"no GPU is free beside the only replica; {way}"
    return _told(rollout, P.PROGRESSING, text, now)


def _placed(rollout: Rollout, service: Service) -> bool:
    return any(p.takes_place and p.revision == rollout.revision for p in service.pods)


def _choice(rollout: Rollout, service: Service, evidence: Evidence, now: float) -> Rollout:
    """Return a rollout with the choice between surge and swap, by the GPUs that are free."""
    if _placed(rollout, service) or evidence.room or now - rollout.since < SETTLE_S:
        return rollout
    if ready(service, rollout.stable or "") > 1:
        text = "no GPU is free: the old revision gives up one replica after the other for it"
        return _told(rollout, P.PROGRESSING, text, now)
    if not evidence.door:
        text = "no GPU is free, and without a front door, at which requests could wait, the only replica stays"
        return _told(rollout, P.PROGRESSING, text, now)
    text = "no GPU is free: the only replica gives up its own, and requests wait at the front door"
    return replace(_told(rollout, P.PROGRESSING, text, now), swaps=True)


def _timely(rollout: Rollout, evidence: Evidence, spec: RolloutSpec, now: float) -> Rollout:
    """Return a rollout as it is, or taken back where it has not come forward for too long."""
    limit = spec.seconds("progress_deadline")
    if rollout.swaps and evidence.failure is not None:
        return _back(rollout, f"the only replica has gone for it, and {evidence.failure}", now)
    if now - max(rollout.since, evidence.came or 0.0) < limit:
        return rollout
    why = evidence.failure or rollout.message
    return _back(rollout, f"no progress within {limit:g} s: {why}", now)


def _back(rollout: Rollout, text: str, now: float) -> Rollout:
    return _moved(rollout, P.ROLLED_BACK, text, now, step=rollout.step, percent=None)


def _moved(
    rollout: Rollout,
    phase: RolloutPhase,
    text: str,
    now: float,
    *,
    step: int | None = None,
    percent: float | None = None,
) -> Rollout:
    moved = replace(rollout, phase=phase, since=now, message=text)
    return replace(moved, step=step, percent=percent)


def _told(rollout: Rollout, phase: RolloutPhase, text: str, now: float) -> Rollout:
    """Return a rollout that stays where it is, with other words."""
    if (rollout.phase, rollout.message) == (phase, text):
        return rollout
    since = now if rollout.phase is not phase else rollout.since
    return replace(rollout, phase=phase, since=since, message=text)
