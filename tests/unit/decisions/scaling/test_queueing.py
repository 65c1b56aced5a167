"""Few replicas need more room than many, and uneven arrivals more than even ones."""

import math

import pytest

from conch.decisions.scaling.queueing import blocked_share, servers_for, waiting_share


def waiting(servers: int, offered: float) -> float:
    return waiting_share(servers, offered, blocked_share(servers, offered))


@pytest.mark.parametrize(
    ("servers", "offered", "expected"),
    # From published tables of Erlang C.
    [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (10, 5.0, 0.0361), (10, 9.0, 0.6687)],
)
def test_the_share_that_waits(servers: int, offered: float, expected: float) -> None:
    assert waiting(servers, offered) == pytest.approx(expected, abs=1e-4)


def test_it_is_erlang_b_of_the_definition() -> None:
    offered, servers = 7.3, 9
    terms = [offered**k / math.factorial(k) for k in range(servers + 1)]
    last = terms[-1] / (1 - offered / servers)
    assert waiting(servers, offered) == pytest.approx(last / (sum(terms[:-1]) + last))


def test_few_replicas_are_used_less() -> None:
    uses = [
        load / servers_for(load, wait=2.0, late=1e-3, variation=1.0) for load in (0.5, 2, 10, 100)
    ]
    assert uses == sorted(uses)
    assert uses[0] < 0.6
    assert uses[-1] > 0.95


def test_what_it_gives_is_enough_and_one_less_is_not() -> None:
    for offered in (0.2, 1.0, 3.7, 12.0, 60.0):
        servers = servers_for(offered, wait=2.0, late=1e-3, variation=1.5)

        def late(count: int, offered: float = offered) -> float:
            decay = math.exp(-2 * (count - offered) * 2.0 / 1.5)
            return waiting(count, offered) * decay if count > offered else 1.0

        assert late(servers) <= 1e-3
        assert servers == math.ceil(offered) or late(servers - 1) > 1e-3


def test_more_is_asked_for_uneven_arrivals_and_short_waits() -> None:
    plain = servers_for(10.0, wait=2.0, late=1e-3, variation=1.0)
    assert servers_for(10.0, wait=2.0, late=1e-3, variation=3.0) > plain
    assert servers_for(10.0, wait=0.2, late=1e-3, variation=1.0) > plain


def test_nothing_needs_nothing() -> None:
    assert servers_for(0.0, wait=1.0, late=1e-3, variation=1.0) == 0
