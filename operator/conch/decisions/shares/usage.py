"""What a tenant used: a mean that forgets, and what it is charged. Exact between two records.

As the decayed usage of Slurm's fair tree (slurm.conf, PriorityDecayHalfLife), kept as a mean rate
instead of a sum: a tenant that always holds r GPUs has a usage of r, whatever the half-life.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

HALF_LIFE_S = 12 * 3600.0
"""Seconds after which what was held counts half."""
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Account:
    """What is held of one accelerator, in GPUs and per hour in money, and what it came to so far."""

    gpus: float = 0.0
    gpu_hours: float = 0.0
    cost: float = 0.0
    cost_per_hour: float = 0.0

    def after(self, seconds: float) -> "Account":
        """Return the account ``seconds`` later, with nothing given or taken meanwhile."""
        hours = max(0.0, seconds) / _HOUR_S
        return Account(
            self.gpus,
            self.gpu_hours + self.gpus * hours,
            self.cost + self.cost_per_hour * hours,
            self.cost_per_hour,
        )


@dataclass(frozen=True)
class Record:
    """Usage and charges as of a time: what follows from them needs no write."""

    usage: float = 0.0
    """Decayed mean of what was held, in GPUs of relative speed 1."""
    rate: float = 0.0
    """What is held since ``as_of``, in the same."""
    as_of: float = 0.0
    """Seconds since the epoch."""
    accounts: Mapping[str, Account] = field(default_factory=dict)
    """By accelerator."""

    def at(self, now: float, half_life: float = HALF_LIFE_S) -> "Record":
        """Return the record as it is ``now``, had nothing changed; a clock set back changes nothing."""
        seconds = max(0.0, now - self.as_of)
        return Record(
            decayed(self.usage, self.rate, seconds, half_life),
            self.rate,
            max(now, self.as_of),
            {name: account.after(seconds) for name, account in self.accounts.items()},
        )


@dataclass(frozen=True, slots=True)
class Held:
    """What one replica holds."""

    accelerator: str
    gpus: float
    charge: float
    """In GPUs of relative speed 1."""
    price: float = 0.0
    """Of one GPU, per hour."""


def decayed(usage: float, rate: float, seconds: float, half_life: float) -> float:
    """Return the mean after ``seconds`` at ``rate``; all but the seconds in GPUs of speed 1.

    The solution of du/dt = (rate - u) ln 2 / half-life.
    """
    return rate + (usage - rate) * math.pow(0.5, max(0.0, seconds) / half_life)


def recorded(
    old: Record | None, held: Iterable[Held], now: float, half_life: float = HALF_LIFE_S
) -> Record:
    """Return the record as of ``now``: the time since ``old`` at its rates, then what is held now.

    A gap, such as one without an operator, is charged at the stored rate.
    """
    before = old.at(now, half_life) if old is not None else Record(as_of=now)
    accounts = {
        name: Account(gpu_hours=account.gpu_hours, cost=account.cost)
        for name, account in before.accounts.items()
    }
    rate = 0.0
    for replica in held:
        rate += replica.charge
        known = accounts.get(replica.accelerator, Account())
        accounts[replica.accelerator] = Account(
            known.gpus + replica.gpus,
            known.gpu_hours,
            known.cost,
            known.cost_per_hour + replica.gpus * replica.price,
        )
    return Record(before.usage, rate, before.as_of, accounts)


def same_holdings(one: Record, other: Record) -> bool:
    """Tell whether two records say that the same is held: then the older one still tells all."""
    held = [
        (r.rate, {n: (a.gpus, a.cost_per_hour) for n, a in r.accounts.items() if a.gpus})
        for r in (one, other)
    ]
    return held[0] == held[1]


def entry_penalty(young: Iterable[tuple[float, float, float]], half_life: float) -> float:
    """Return what replicas that began lately are charged ahead, in GPUs of relative speed 1.

    ``young``: charge, age and load time of each. One younger than its load time counts as though it
    had been there for a load time, so that nobody floods the fleet between two looks; it is never
    stored, and gone when the time is over.
    """
    return sum(
        charge * (1.0 - math.pow(0.5, (load - age) / half_life))
        for charge, age, load in young
        if 0.0 <= age < load
    )
