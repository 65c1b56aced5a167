"""The part after the name of a policy, as people write it: ``kpa:target=0.8,stable=2m``."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from conch.api.base import parse_duration
from conch.simulate.policies.base import Policy, PolicyMaker, Setting, setting_of


class PolicyError(ValueError):
    """A policy that there is not, or a setting that it has not; a sentence for people."""


@dataclass
class Options:
    """Settings by their keys; what was asked for is taken out, what is left nobody knows."""

    policy: str
    """As it was written, for messages."""
    given: dict[str, str] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)

    def number(self, key: str, default: float, *, above: float = 0.0) -> float:
        """Return a number that is greater than ``above``."""
        text = self._take(key)
        return default if text is None else self._number(key, text, above)

    def share(self, key: str, default: float) -> float:
        """Return a number above 0 and up to 1."""
        value = self.number(key, default)
        if value > 1.0:
            raise PolicyError(
                f"{self.policy}: {key} is a share above 0 and up to 1, for example 0.7"
            )
        return value

    def whole(self, key: str, default: int, *, least: int = 0) -> int:
        """Return a whole number from ``least`` on."""
        text = self._take(key)
        if text is None:
            return default
        if not text.isdecimal() or int(text) < least:
            raise PolicyError(f"{self.policy}: {key} is a whole number from {least} on")
        return int(text)

    def seconds(self, key: str, default: int, *, least: int = 0) -> int:
        """Return whole seconds, written as ``90`` or ``1m30s``."""
        text = self._take(key)
        if text is None:
            return default
        try:
            value = float(text) if text.isdecimal() else parse_duration(text)
        except ValueError as error:
            raise PolicyError(f"{self.policy}: {key}={error}") from None
        if not value.is_integer() or value < least:
            raise PolicyError(f"{self.policy}: {key} is whole seconds from {least} on")
        return int(value)

    def word(self, key: str, words: tuple[str, ...]) -> str:
        """Return one of ``words``; the first unless another is given."""
        text = self._take(key)
        if text is not None and text not in words:
            raise PolicyError(f"{self.policy}: {key} is one of {', '.join(words)}")
        return words[0] if text is None else text

    def has(self, key: str) -> bool:
        """Return whether the key is given."""
        return key in self.given

    def done(self) -> None:
        """Raise PolicyError where something is left that nobody asked for."""
        if self.given:
            known = ", ".join(dict.fromkeys(self.known)) or "none"
            unknown = ", ".join(self.given)
            raise PolicyError(f"{self.policy}: no such setting: {unknown}. It has {known}")

    def _take(self, key: str) -> str | None:
        self.known.append(key)
        return self.given.pop(key, None)

    def _number(self, key: str, text: str, above: float) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not above < value < math.inf:
            raise PolicyError(f"{self.policy}: {key} is a number above {above:g}, not {text!r}")
        return value


def read_options(policy: str, text: str, first: str | None) -> Options:
    """Return the settings in ``text``; ``first`` is the key of a value that has none."""
    options = Options(policy)
    for place, part in enumerate(text.split(",") if text else ()):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not equals:
            if place or first is None:
                raise PolicyError(f"{policy}: write settings as key=value, {part!r} is none")
            key, value = first, key
        if key in options.given:
            raise PolicyError(f"{policy}: {key} is given twice")
        if not value:
            raise PolicyError(f"{policy}: {key or part!r} has no value")
        options.given[key] = value
    return options


def on_setting(make: Callable[[Setting], Policy]) -> PolicyMaker:
    """Return a maker of policies that know of a service what its owner does."""
    return lambda workload, _, load_times: make(setting_of(workload, load_times))
