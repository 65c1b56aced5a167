"""The ledger's index finds what looking through every node would find, after any bookings."""

from hypothesis import given
from hypothesis import strategies as st

from conch.decisions.fleet import Amounts, Pool, Shape
from conch.decisions.placement import Ledger, choose, explain, obstacle, room
from tests.unit.decisions.stories import node, pool

TAINT = {"key": "spot", "effect": "NoSchedule"}
TOLERATIONS: tuple[tuple[dict[str, str], ...], ...] = ((), ({"operator": "Exists"},))
NAMES = [f"n{i}" for i in range(6)]

shapes = st.builds(
    lambda gpus, cpu, tolerations: Shape(Amounts(gpus, cpu, 2.0**30, 1), tolerations),
    st.integers(0, 3),
    st.sampled_from([0.5, 4.0]),
    st.sampled_from(TOLERATIONS),
)
steps = st.lists(
    st.tuples(st.sampled_from(["book", "release", "ask"]), st.sampled_from(NAMES), shapes),
    max_size=25,
)


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    nodes = []
    for name in draw(st.permutations(NAMES)):
        gpus = draw(st.integers(0, 4))
        nodes.append(
            node(
                name,
                gpus=gpus,
                used=draw(st.integers(0, gpus)),
                ready=draw(st.integers(0, 5)) > 0,
                schedulable=draw(st.integers(0, 5)) > 0,
                taints=(TAINT,) if draw(st.integers(0, 3)) == 0 else (),
            )
        )
    return pool("a", *nodes)


def looked_through(where: Pool, shape: Shape, ledger: Ledger) -> tuple[str | None, int]:
    """Return the tightest node and the number of replicas that fit, asked of each node."""
    fits, total = [], 0
    for one in where.nodes:
        free = ledger.free(one, where)
        if obstacle(one, shape, free) is None:
            fits.append((free.gpus, free.cpu, one.name))
        while total < 50 and obstacle(one, shape, free) is None:
            free -= shape.need
            total += 1
    return (min(fits)[2] if fits else None), total


@given(pools(), steps, shapes)
def test_the_index_agrees_with_looking_through_every_node(
    where: Pool, history: list[tuple[str, str, Shape]], last: Shape
) -> None:
    ledger = Ledger()
    for what, name, shape in [*history, ("ask", NAMES[0], last)]:
        if what == "book":
            ledger.book(name, shape.need)
        elif what == "release":
            ledger.release(name, shape.need)
        else:
            node_name, total = looked_through(where, shape, ledger)
            assert choose(where, shape, ledger) == node_name
            assert room(where, shape, ledger, most=50) == total
            assert explain(where, shape, ledger) == explain(where, shape, _afresh(ledger, where))


def _afresh(ledger: Ledger, where: Pool) -> Ledger:
    """Return a ledger with the same bookings that has not been asked yet."""
    fresh = Ledger()
    for one in where.nodes:
        fresh.book(one.name, Ledger().free(one, where) - ledger.free(one, where))
    return fresh
