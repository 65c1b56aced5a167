"""A Prometheus without a Prometheus: answers that a test sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from conch.clients.prometheus import MetricsUnavailable
from conch.metrics.series import Series

Answer = tuple[Mapping[str, str], float]
"""Labels and value."""


@dataclass
class FakePrometheus:
    """Answers each query, by its PromQL text, with the (labels, value) pairs in ``answers``.

    ``down``: why it gives no answer at all, None while it does.
    """

    answers: dict[str, Sequence[Answer]] = field(default_factory=dict)
    down: str | None = None
    asked: list[float] = field(default_factory=list)
    """The times that queries were asked for."""

    async def query(self, queries: Mapping[str, str], at: float) -> Mapping[str, list[Series]]:
        """Return what was set for each query, nothing for others. Raises MetricsUnavailable."""
        self.asked.append(at)
        if self.down is not None:
            raise MetricsUnavailable(self.down)
        return {
            name: [Series(labels, value, at) for labels, value in self.answers.get(promql, ())]
            for name, promql in queries.items()
        }

    def close(self) -> None:
        """Nothing is held."""
