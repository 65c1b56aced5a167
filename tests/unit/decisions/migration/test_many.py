"""A large fleet at rest costs little, and nothing moves there."""

import time

from conch.decisions.migration import propose
from tests.unit.decisions.migration.fleets import world


def test_a_thousand_replicas_on_five_hundred_nodes() -> None:
    here = world(*[8] * 500, popular={1: 0.6, 2: 0.2, 4: 0.1, 8: 0.1})
    for index in range(250):
        # Nodes in use are all but full, each service is on four of them.
        here.run(f"s{index}", *(f"n{1 + index % 32 * 4 + n}" for n in range(4)))
    assert len(here.replicas) == 1000
    fleet = here.fleet()
    started = time.process_time()
    plan = propose(fleet, here.now)
    # 0.03 s on one of two cores; the limit is for slow machines that do other things too.
    assert time.process_time() - started < 1.0
    assert not plan.moves
