"""Whatever was applied before, what is applied now decides: A, then B, then C ends like a fresh C.

Real API server, controllers and scheduler; nodes and pods are simulated.
"""

import itertools
import os
from collections.abc import Iterator, Sequence

import pytest

from tests.kit.differential import LIMIT_S, Batch, Difference, furnish
from tests.kit.histories import History, Spec, drawn, histories, pools
from tests.kit.report import PROPERTY, Recorder
from tests.kit.sweep import Lane, lane

BATCHES = int(os.environ.get("CONCH_BATCHES", "2"))
SIZE = 156
FIRST_SEED = int(os.environ.get("CONCH_SEED", "1"))
REST_S = 6.0
"""Longer than from one list of all objects to the next, which would bring up what is undone."""
SHRINKS = 2
"""How often a history that fails is tried in simpler forms, all of them at once."""
SHRINK_S = 30.0


@pytest.fixture(scope="module")
def big_lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    """A simulated cluster without bounds, and an operator."""
    with lane(tmp_path_factory.mktemp("big-lane"), places=()) as running:
        furnish(running.cluster.client)
        yield running


def live(
    lane: Lane, cases: Sequence[History], edits: Sequence[Spec], *, limit: float = LIMIT_S
) -> tuple[list[Difference], str]:
    """Live histories: what differs, and figures. At rest nothing is written."""
    lane.proxy.reset()
    batch = Batch(lane, cases, edits, limit)
    differences = batch.live()
    written = batch.writes_at_rest(REST_S)
    batch.remove()
    # While some still differ, it is not at rest: they are what failed.
    assert differences or not written, "written at rest:\n" + "\n".join(written)
    return differences, batch.figures


def simplest(lane: Lane, found: Difference, edits: Sequence[Spec]) -> Difference:
    """Return the simplest form of a history that still differs."""
    for _ in range(SHRINKS):
        simpler = list(itertools.islice(found.history.simpler(), SIZE))
        still = live(lane, simpler, edits, limit=SHRINK_S)[0] if simpler else []
        if not still:
            break
        found = min(still, key=lambda d: d.history.size())
    return found


@pytest.mark.parametrize("number", range(FIRST_SEED, FIRST_SEED + BATCHES))
def test_what_is_applied_last_decides(
    big_lane: Lane, number: int, record_property: Recorder
) -> None:
    cases = drawn(histories(), SIZE, number)
    edits = drawn(pools, 3, number)
    differences, text = live(big_lane, cases, edits)
    record_property(PROPERTY, f"differential, seed {number}: {text}")
    assert " C can work in 0," not in text
    if differences:
        one = simplest(big_lane, min(differences, key=lambda d: d.history.size()), edits)
        texts = "\n\n".join(d.text for d in differences)
        pytest.fail(f"{len(differences)} of {len(cases)} differ:\n{texts}\n\nthe simplest:\n{one}")
