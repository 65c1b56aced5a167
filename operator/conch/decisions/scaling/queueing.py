"""How many replicas keep the queue short: an M/D/c queue with a factor for uneven arrivals."""

import math

_MOST = 512.0
"""Offered load from which the economy of scale leaves less than a replica to add."""
_FEWEST = 1e-9


def blocked_share(servers: int, offered: float) -> float:
    """Return the share of requests that find no free server where none may wait (Erlang B).

    ``offered`` is the load in servers. The recursion is that of Cooper, Introduction to Queueing
    Theory, 1981, section 3.3.
    """
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    return blocked


def waiting_share(servers: int, offered: float, blocked: float) -> float:
    """Return the share of requests that wait at all (Erlang C), from Erlang B's ``blocked``."""
    return blocked / (1.0 - offered / servers * (1.0 - blocked))


def servers_for(offered: float, *, wait: float, late: float, variation: float) -> int:
    """Return the fewest servers with which at most a share ``late`` waits longer than ``wait``.

    ``offered`` is the load in servers; ``wait`` is in service times; ``variation`` is the index of
    dispersion of the arrivals (1: Poisson). The tail of the wait is exponential: with service times
    that are all alike it falls twice as fast as with exponential ones (Tijms, A First Course in
    Stochastic Models, 2003, section 9.6), and slower by the variation (Allen and Cunneen's
    (ca² + cs²) / 2, with cs = 0).
    """
    if offered <= _FEWEST:
        return 0
    servers = max(1, math.ceil(offered))
    if offered > _MOST:
        return servers
    blocked = blocked_share(servers, offered)
    while not _prompt(servers, offered, blocked, wait=wait, late=late, variation=variation):
        servers += 1
        blocked = offered * blocked / (servers + offered * blocked)
    return servers


def _prompt(
    servers: int, offered: float, blocked: float, *, wait: float, late: float, variation: float
) -> bool:
    if servers <= offered:
        return False
    decay = 2.0 * (servers - offered) * wait / max(variation, _FEWEST)
    return waiting_share(servers, offered, blocked) * math.exp(-decay) <= late
