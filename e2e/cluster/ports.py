"""Ports of the loopback interface for servers that are about to start."""

import os
import random
import socket

LOOPBACK = "127.0.0.1"
# Below what Linux gives to outgoing connections (32768 and up), so that none of those takes a port
# between our look and the server's start; above what well-known servers use.
_FIRST, _LAST = 15000, 32000


def free_ports(count: int) -> tuple[int, ...]:
    """Return so many ports that nobody uses now.

    The search starts somewhere else in each process and at each call, so that tests side by side
    don't pick the same ones.
    """
    start = random.Random(os.urandom(8)).randrange(_FIRST, _LAST)
    found: list[int] = []
    for offset in range(_LAST - _FIRST):
        port = _FIRST + (start - _FIRST + offset) % (_LAST - _FIRST)
        if _is_free(port):
            found.append(port)
        if len(found) == count:
            return tuple(found)
    raise OSError(f"fewer than {count} ports of {_FIRST} to {_LAST} are free")


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
