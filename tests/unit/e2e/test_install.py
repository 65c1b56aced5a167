from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from conch.clients.clock import SystemClock, iso
from e2e.install import HELM_TIMEOUT_S, forget_cut_off

if TYPE_CHECKING:
    from e2e.kubectl import Tools


@dataclass
class Recorded:
    """Stands for kubectl: holds the releases that are pending, and what it was told to do."""

    pending: dict[str, float]
    """Name to age in seconds."""
    told: list[tuple[str, ...]] = field(default_factory=list)

    def list(self, *_: str) -> list[dict[str, Any]]:
        now = SystemClock().wall()
        return [
            {"metadata": {"name": name, "creationTimestamp": iso(now - age)}}
            for name, age in self.pending.items()
        ]

    def kubectl(self, *words: str) -> None:
        self.told.append(words)


def test_only_upgrades_that_nothing_carries_on_are_forgotten() -> None:
    tools = Recorded({"cut-off": HELM_TIMEOUT_S + 30, "under-way": HELM_TIMEOUT_S - 30})
    forget_cut_off(cast("Tools", tools))
    assert tools.told == [("delete", "secret", "cut-off", "-n", "conch-system")]
