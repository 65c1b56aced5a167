"""Replicas without replicas: what each answers is what a test says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from conch.clients.triton import ReplicaUnreachable


@dataclass
class FakeReplicas:
    """Answers for each address in its seconds, or with its error; nobody is at any other."""

    seconds: dict[str, float | Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Addresses, in the order in which they were asked."""

    async def timed(
        self, address: str, model: str, values: Mapping[str, str], *, count: int
    ) -> Sequence[float]:
        """Return what inferences took; see Replicas."""
        del model, values
        self.asked.append(address)
        found = self.seconds.get(address, ReplicaUnreachable(f"{address} does not answer"))
        if isinstance(found, Exception):
            raise found
        return [found] * count
