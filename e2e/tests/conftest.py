"""The stage of the end-to-end tests, and a namespace of its own for each."""

import re
from collections.abc import Iterator

import pytest

from e2e.cluster.progress import terminal_reporter
from e2e.install import Stage, ensure_stage
from e2e.models import documents
from e2e.scratch import Scratch, scratch

RELIST_S = 5.0
"""Short, so that what only a list finds is found while a test waits."""
HALF_LIFE_S = 60.0
"""Of what tenants used: short, so that it counts within a test."""


@pytest.fixture(scope="session")
def stage() -> Stage:
    """A cluster with Conch, the sample models and the pools of the examples."""
    found = ensure_stage(
        terminal_reporter(), relist_seconds=RELIST_S, half_life_seconds=HALF_LIFE_S
    )
    found.tools.apply(*documents("pools.yaml"))
    return found


@pytest.fixture
def place(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Scratch]:
    """A fresh namespace under the restricted Pod Security Standard, with the samples' claim."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-")
    with scratch(stage, f"e2e-{name}") as found:
        found.use_samples()
        yield found
