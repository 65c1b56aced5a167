"""Who may have how many GPUs: fair shares with memory, quotas, and what is taken back.

``share`` decides for the whole fleet at once; ``usage`` keeps what was held; ``tenancy`` tells whose
a namespace is.
"""

from conch.decisions.shares.claims import Claim, Grant, Holding, Shares, Standing, Tenant
from conch.decisions.shares.sharing import share

__all__ = ["Claim", "Grant", "Holding", "Shares", "Standing", "Tenant", "share"]
