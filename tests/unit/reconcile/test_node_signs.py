"""Which conditions of nodes are signs of failing."""

import pytest

from conch.reconcile.node_signs import AGENTS, SIGNS, node_signs


def test_no_condition_is_told_of_by_two_agents_in_two_ways() -> None:
    kinds = [kind for agent in AGENTS for kind in agent.kinds]
    assert len(kinds) == len(set(kinds)) == len(SIGNS)
    assert set(SIGNS.values()) == {"True", "False"}
    assert "Ready" not in SIGNS


def test_those_named_ready_are_bad_where_they_are_false() -> None:
    assert {k for k, bad in SIGNS.items() if bad == "False"} == {
        k for k in SIGNS if k.endswith("Ready")
    }


def test_people_add_turn_round_and_take_away() -> None:
    found = node_signs(["Mine=true", "example.com/GPU-Fit=False", "KernelDeadlock=ignore"])
    assert found["Mine"] == "True"
    assert found["example.com/GPU-Fit"] == "False"
    assert "KernelDeadlock" not in found
    assert found.keys() - {"Mine", "example.com/GPU-Fit"} == SIGNS.keys() - {"KernelDeadlock"}
    assert node_signs([]) == SIGNS


@pytest.mark.parametrize("word", ["Mine", "Mine=", "Mine=Unknown", "=True", "a b=True"])
def test_what_is_no_sign_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="is not of the form TYPE=True"):
        node_signs([word])


def test_ready_is_no_sign() -> None:
    with pytest.raises(ValueError, match="Ready is Kubernetes' own"):
        node_signs(["Ready=False"])
