"""Room that moves make for one that waits is kept from others, and not for ever."""

import pytest

from conch.decisions.fleet import Amounts, ServiceKey
from conch.decisions.migration import Reserved
from conch.decisions.placement import Ledger
from conch.reconcile.kept_room import KEPT_S, Keeping, KeptRoom
from tests.unit.decisions.stories import node, pool

NOW = 1_000_000.0
BIG, SMALL = ServiceKey("t", "big"), ServiceKey("t", "small")
NEED = Amounts(3, 3.0, 3e9, 1)
N1 = node("n1", used=2)
A = pool("a", N1, node("n2"))
ROOM = Reserved("n1", "a", BIG, NEED)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def kept(
    ledger: Ledger, room: Reserved = ROOM, *waiting: ServiceKey, after: float = 1.0
) -> Keeping:
    found = KeptRoom()
    found.keep([room], waiting, NOW)
    return found.begin(ledger, [A], NOW + after)


def gpus(ledger: Ledger) -> int:
    return ledger.free(N1, A).gpus


def test_what_is_free_of_it_is_kept_from_all_but_one(ledger: Ledger) -> None:
    keeping = kept(ledger)
    assert gpus(ledger) == 0, "two of three are free by now"
    with keeping.open_to(SMALL):
        assert gpus(ledger) == 0
    with keeping.open_to(BIG):
        assert gpus(ledger) == 2
    assert gpus(ledger) == 0
    keeping.end()
    assert ledger.free(N1, A) == Ledger().free(N1, A)


def test_more_than_is_needed_is_left_to_others(ledger: Ledger) -> None:
    kept(ledger, Reserved("n1", "a", BIG, Amounts(1, 1.0, 1e9, 1)))
    assert gpus(ledger) == 1


def test_once_it_is_taken_nothing_is_kept(ledger: Ledger) -> None:
    keeping = kept(ledger, Reserved("n1", "a", BIG, Amounts(1, 1.0, 1e9, 1)))
    with keeping.open_to(BIG):
        ledger.book("n1", Amounts(1, 1.0, 1e9, 1), A.spec.resource_name)
    assert gpus(ledger) == 1
    keeping.end()
    assert gpus(ledger) == 1


def test_what_the_planner_does_not_say_again_is_free(ledger: Ledger) -> None:
    kept(ledger, after=KEPT_S)
    assert gpus(ledger) == 2
    said = KeptRoom()
    said.keep([ROOM], (), NOW)
    said.keep([], (), NOW + 10)
    said.begin(ledger, [A], NOW + 11)
    assert gpus(ledger) == 2


def test_who_waits_for_long_is_kept_from_nothing(ledger: Ledger) -> None:
    said = KeptRoom()
    for after in (0.0, 10.0, 50.0):
        said.keep([ROOM], [SMALL], NOW + after)
    with said.begin(ledger, [A], NOW + KEPT_S - 1).open_to(SMALL):
        assert gpus(ledger) == 0
    other = Ledger()
    keeping = said.begin(other, [A], NOW + KEPT_S)
    with keeping.open_to(SMALL):
        assert gpus(other) == 2
    with keeping.open_to(ServiceKey("t", "newcomer")):
        assert gpus(other) == 0


def test_what_people_ask_for_comes_first(ledger: Ledger) -> None:
    said = KeptRoom()
    said.keep([ROOM], (), NOW)
    keeping = said.begin(ledger, [A], NOW + 1, [SMALL])
    with keeping.open_to(SMALL):
        assert gpus(ledger) == 2
    assert gpus(ledger) == 0


def test_who_had_its_place_in_between_waits_anew(ledger: Ledger) -> None:
    said = KeptRoom()
    said.keep([ROOM], [SMALL], NOW)
    said.keep([ROOM], [], NOW + 30)
    said.keep([ROOM], [SMALL], NOW + 40)
    with said.begin(ledger, [A], NOW + KEPT_S + 1).open_to(SMALL):
        assert gpus(ledger) == 0


def test_a_node_that_is_gone_is_no_room(ledger: Ledger) -> None:
    kept(ledger, Reserved("n9", "a", BIG, NEED)).end()
    assert gpus(ledger) == 2
