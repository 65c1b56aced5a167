"""From Prometheus' answers to what is known of each service."""

from collections.abc import Mapping, Sequence

from conch.api.signals import Key, Signals
from conch.metrics.series import Series

__all__ = ["Key", "Signals", "parse"]


def parse(
    answers: Mapping[str, Sequence[Series]],
    entry: Mapping[tuple[str, str], str] | None = None,
) -> Mapping[Key, Signals]:
    """Return the signals of each (namespace, service, revision, pool).

    ``answers`` are by the names in ``queries()``. ``entry`` gives Triton's name of the model that
    callers ask, by (namespace, service); a service that it lacks must report one model only.
    A key that is absent has no fresh data: no value is ever made up.
    """
    raise NotImplementedError
