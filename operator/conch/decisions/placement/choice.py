"""Which node of a pool takes a replica, how many more it takes, and why it takes none."""

from conch.decisions.fleet import Pool, Shape
from conch.decisions.placement.ledger import Ledger
from conch.decisions.placement.wish import Wish


def choose(pool: Pool, shape: Shape, ledger: Ledger, *, wish: Wish | None = None) -> str | None:
    """Return the node of the pool that should take a replica, or None where none can.

    The least of the rise of fragmentation, load time and crowding (see Wish), all in GPUs; among
    equals, and where no popular demand is known, the tightest fit; then the first by name.
    """
    return ledger.best(pool, shape, wish)


def room(pool: Pool, shape: Shape, ledger: Ledger, *, most: int) -> int:
    """Return how many more replicas the pool can take, at most ``most``.

    An elastic pool takes ``most``: its autoscaler brings nodes for pods that wait.
    """
    return most if pool.spec.elastic else ledger.room(pool, shape, most)


def explain(pool: Pool, shape: Shape, ledger: Ledger) -> str:
    """Return one sentence on why a pool takes no more replicas."""
    return ledger.sentence(pool, shape)
