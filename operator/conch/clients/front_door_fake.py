"""A front door without a front door: reports that a test sets."""

import asyncio
from dataclasses import dataclass, field

from conch.clients.front_door import Report, ReportUnavailable

_LOOK_S = 0.005


@dataclass
class FakeAgents:
    """Answers for each address with its report, as a long poll; hangs for those in ``hanging``."""

    reports: dict[str, Report] = field(default_factory=dict)
    """By address; one that is missing gives no report."""
    hanging: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    """Addresses, in the order in which they were asked."""

    async def report(self, address: str, *, after: int, wait: float) -> Report:
        """Return the report once its version is another, at the latest after ``wait`` seconds."""
        self.asked.append(address)
        left = wait
        while address in self.hanging or (
            address in self.reports and self.reports[address].version == after and left > 0
        ):
            await asyncio.sleep(_LOOK_S)
            left -= _LOOK_S
        if address not in self.reports:
            raise ReportUnavailable(f"nobody answers at {address}")
        return self.reports[address]

    async def close(self) -> None:
        """Nothing is held."""
