"""A small steady load on a service, none of whose requests may fail."""

from collections.abc import Iterator
from contextlib import contextmanager

from e2e.kubectl import wait_for
from e2e.load import Load, Tally, request_body
from e2e.scratch import Scratch

LONGEST_S = 600.0


@contextmanager
def steady(place: Scratch, service: str, *, of: str | None = None, rate: float) -> Iterator[Tally]:
    """Ask a service of a model of ``scratch.python_model``, each time over a new connection.

    Returns only after requests were answered both before and after what the body does; raises
    AssertionError where any failed.
    """
    url = f"http://{place.address(service)}:8000/v2/models/{of or service}/infer"
    body = request_body("x", "FP32", [[1.0, 2.0, 3.0, 4.0]])
    with Load(url, body, rate=rate, seconds=LONGEST_S) as load:
        more_answers(load.tally)
        yield load.tally
        more_answers(load.tally)
    assert not load.tally.failures, f"{load.tally}: {load.tally.failures[:3]}"
    assert load.tally.answered == load.tally.sent > 0


def more_answers(tally: Tally, count: int = 10) -> None:
    """Wait until so many more requests have been answered, or one failed."""
    before = tally.answered
    wait_for(
        f"{count} more answers",
        lambda: tally.failures or tally.answered >= before + count,
        timeout=60,
        seen=lambda: str(tally),
    )
