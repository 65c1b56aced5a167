"""docs/operations.md is true to the code: the conditions of nodes that are signs of failing."""

import re
from pathlib import Path

import pytest

from conch.reconcile.node_signs import AGENTS, Agent

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("agent", AGENTS, ids=lambda a: a.name)
def test_the_table_names_the_conditions_of_each_agent(agent: Agent) -> None:
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in TEXT.splitlines()]
    (row,) = [r for r in rows if r and r[0] == agent.name]
    assert tuple(re.findall("`([^`]+)`", row[1])) == agent.kinds
    assert row[2] == f"`{agent.bad}`"
