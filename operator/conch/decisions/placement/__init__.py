"""Which node takes a replica: filter, then score; and why none does.

The score is the rise of fragmentation (fragmentation.py), plus what the service wishes of its nodes
(wish.py). Equal scores go to the tightest fit (the least left over), which keeps whole nodes free
for replicas that need many GPUs. Nodes that show signs of failing come last. Prices decide between
pools (fleet.ordered), not within one.
"""

from conch.decisions.placement.choice import choose, explain, room
from conch.decisions.placement.filters import bar, obstacle, tolerates, unwelcome
from conch.decisions.placement.fragmentation import popular
from conch.decisions.placement.ledger import Ledger
from conch.decisions.placement.wish import Wish

__all__ = [
    "Ledger",
    "Wish",
    "bar",
    "choose",
    "explain",
    "obstacle",
    "popular",
    "room",
    "tolerates",
    "unwelcome",
]
