"""Which replicas should run elsewhere, why, and whether it is worth it: the planner of migrations.

``propose`` decides for the whole fleet, ``revalidate`` asks again before a step that disturbs. Both
try moves in copies of the books, where a place that is left comes free only once the new one answers.
"""

from conch.api.migration import MoveReason
from conch.decisions.migration.plan import Because, Move, Plan, Refusal, Reserved
from conch.decisions.migration.propose import propose
from conch.decisions.migration.revalidate import revalidate
from conch.decisions.migration.view import (
    MovableFleet,
    MovableService,
    OpenMove,
    Option,
    Replica,
    Waiting,
)

__all__ = [
    "Because",
    "MovableFleet",
    "MovableService",
    "Move",
    "MoveReason",
    "OpenMove",
    "Option",
    "Plan",
    "Refusal",
    "Replica",
    "Reserved",
    "Waiting",
    "propose",
    "revalidate",
]
