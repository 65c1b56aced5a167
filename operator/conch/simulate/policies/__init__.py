"""Scaling policies by their names."""

from collections.abc import Callable
from typing import NamedTuple

from conch.simulate.policies import clairvoyant, conch, forecast, hpa, keda, kpa, static
from conch.simulate.policies.base import PolicyMaker
from conch.simulate.policies.options import Options, PolicyError, read_options

__all__ = ["POLICIES", "Entry", "PolicyError", "PolicyMaker", "parse"]


class Entry(NamedTuple):
    """How a policy is made of its settings."""

    maker: Callable[[Options], PolicyMaker]
    example: str
    first: str | None = None
    """The key of a value that is written without one."""


POLICIES: dict[str, Entry] = {
    "conch": Entry(conch.maker, "conch"),
    "hpa": Entry(hpa.maker, "hpa:0.5", "target"),
    "kpa": Entry(kpa.maker, "kpa:tuned", "preset"),
    "keda": Entry(keda.maker, "keda:pending=4"),
    "forecast": Entry(forecast.maker, "forecast"),
    "static": Entry(static.maker, "static:8", "replicas"),
    "clairvoyant": Entry(clairvoyant.maker, "clairvoyant"),
}


def parse(text: str) -> PolicyMaker:
    """Return what makes the policy that ``text`` names. Raises PolicyError, a sentence for people."""
    name, _, rest = text.partition(":")
    entry = POLICIES.get(name.strip())
    if entry is None:
        there = ", ".join(entry.example for entry in POLICIES.values())
        raise PolicyError(f"there is no policy {text!r}; there are for example {there}")
    options = read_options(text, rest, entry.first)
    maker = entry.maker(options)
    options.done()
    return maker
