"""A Prometheus without a Prometheus: answers that a test sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from conch.clients.prometheus import MetricsUnavailable, Past, Span
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

    async def past(self, queries: Mapping[str, str], span: Span) -> Past:
        """Return the same answers for each step. Raises MetricsUnavailable."""
        steps = round((span.end - span.start) / span.step)
        times = [span.start + n * span.step for n in range(steps + 1)]
        answers = {at: await self.query(queries, at) for at in times}
        return {
            at: {name: list(found) for name, found in told.items() if found}
            for at, told in answers.items()
            if any(told.values())
        }

    def close(self) -> None:
        """Nothing is held."""
