"""Decisions in words, with the numbers behind them.

A message changes when the decision does, or the load by a fifth: load never stands still, and
each new message is a write to the API server.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from conch.api.conditions import Reason
from conch.decisions.scaling.state import Said

Rates = Mapping[str, float]
_NEWS = 0.2


@dataclass(frozen=True, slots=True)
class Facts:
    """What a message is made of; rates in items a second by accelerator."""

    reason: Reason
    replicas: int
    wished: int
    maximum: int
    standby: int
    demand: float
    rates: Rates
    margin: float
    ready: int
    missing: int
    fault: str | None
    waking: bool = False
    """Requests wait for a first replica, or nobody knows whether some do."""
    deaf: bool = False
    """Whoever holds requests does not tell of all of them."""


def say(before: Said, facts: Facts) -> Said:
    """Return what to say now, which is what was said ``before`` while nothing new is known."""
    key = (
        facts.reason,
        facts.replicas,
        facts.wished,
        facts.maximum,
        facts.standby,
        facts.missing,
        facts.fault,
        facts.waking,
        facts.deaf and facts.reason is Reason.SCALED_TO_ZERO,
        tuple(facts.rates),
    )
    if key == before.key and _alike(facts.demand, before.demand):
        return before
    return Said(key, facts.demand, _message(facts))


def _alike(demand: float, before: float) -> bool:
    # Below a tenth of an item a second, all is silence.
    return abs(demand - before) <= max(0.1, _NEWS * max(demand, before))


def fixed(asked: int, wished: int, replicas: int) -> str:
    """Return the message for spec.replicas."""
    bounds = "" if asked == wished else f", the bounds allow {wished}"
    fits = "" if replicas == wished else f", {replicas} can be had now"
    return f"spec.replicas asks for {asked}{bounds}{fits}; unset it to let Conch scale"


def _message(f: Facts) -> str:
    return _by_front_door(f) or _by_metrics(f)


def _by_front_door(f: Facts) -> str | None:
    """Return what there is to say without metrics, None where there is nothing."""
    if f.reason is Reason.SCALED_TO_ZERO:
        return _asleep(f)
    woken = f.waking and not f.ready
    return _woken(f) if woken and f.reason in (Reason.SCALING, Reason.LIMITED_BY_CAPACITY) else None


def _by_metrics(f: Facts) -> str:
    match f.reason:
        case Reason.ABSURD_METRICS:
            return f"metrics make no sense ({f.fault}): {_stay(f)}"
        case Reason.NO_METRICS:
            return f"{_absence(f)}: {_stay(f)}"
        case Reason.PARTIAL_METRICS:
            gap = f"{f.missing} of {f.ready} ready replicas report nothing fresh"
            return f"{gap if f.ready else 'no replica is ready'}: none is removed. {_numbers(f)}"
        case Reason.AT_MAXIMUM:
            return f"{_numbers(f)}; maxReplicas is {f.maximum}"
        case Reason.LIMITED_BY_CAPACITY:
            return f"{_numbers(f)}; {f.replicas} can be had in its pools now"
        case _:
            return _numbers(f)


def _asleep(f: Facts) -> str:
    text = (
        "nobody is expected to ask soon, so no replica is kept: the front door holds the next "
        "request and has a replica started for it"
    )
    silent = "; it does not report now: where that lasts for a minute, a replica is started in what is free"
    return text + silent if f.deaf else text


def _woken(f: Facts) -> str:
    text = (
        "the front door does not report, so nobody knows who asks"
        if f.deaf
        else "requests wait at the front door for a replica"
    )
    short = f"; {f.replicas} can be had in its pools now"
    return f"{text}: {_wanted(f)}{short if f.reason is Reason.LIMITED_BY_CAPACITY else ''}"


def _count(replicas: int) -> str:
    return "1 replica" if replicas == 1 else f"{replicas} replicas"


def _stay(f: Facts) -> str:
    return f"{_count(f.replicas)} {'stays' if f.replicas == 1 else 'stay'}, none is removed"


def _absence(f: Facts) -> str:
    if f.fault:
        return f.fault
    if not f.ready:
        return "no replica is ready, so nothing is measured"
    return "Prometheus has no fresh metrics of this service's replicas"


def _numbers(f: Facts) -> str:
    if not f.rates:
        return f"{f.demand:.3g} items/s asked; what a replica serves is not known yet: {_wanted(f)}"
    each = ", ".join(f"{rate:.3g} on {name}" for name, rate in sorted(f.rates.items()))
    return (
        f"{f.demand:.3g} items/s asked; one replica serves {each} within the objective, "
        f"and {f.margin:.0%} more are kept ready: {_wanted(f)}"
    )


def _wanted(f: Facts) -> str:
    standby = f", {f.standby} of them as standby" if f.standby and f.wished else ""
    return f"{_count(f.wished)} wanted{standby}"
