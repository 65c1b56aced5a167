"""Which node takes a replica: filter, then the tightest fit; and why none does.

The tightest fit (fewest GPUs left over) keeps whole nodes free for replicas that need many GPUs.
"""

from conch.decisions.placement.choice import choose, explain, room
from conch.decisions.placement.filters import bar, obstacle, tolerates
from conch.decisions.placement.ledger import Ledger

__all__ = ["Ledger", "bar", "choose", "explain", "obstacle", "room", "tolerates"]
