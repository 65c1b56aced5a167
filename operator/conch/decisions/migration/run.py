"""One run of the planner: the books, the limits, and what was accepted and refused so far."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from conch.api.migration import MoveReason
from conch.decisions.fleet import Pool, ServiceKey
from conch.decisions.migration.books import Allowed, Books, Step
from conch.decisions.migration.plan import Because, Move, Plan, Refusal, Reserved
from conch.decisions.migration.rules import Limits, Scales, Worth, amount
from conch.decisions.migration.view import MovableFleet, Option, Replica


@dataclass(frozen=True, slots=True)
class Proposal:
    """Moves that make one gain together."""

    reason: MoveReason
    steps: tuple[Step, ...]
    worth: Worth
    promise: str
    """What is there once all are through, in words."""
    waiting: ServiceKey | None = None
    due: str | None = None
    """Why it is made whatever it is worth, in words; None: it has to be worth it."""

    @property
    def price(self) -> str:
        """What is gained for what, in words."""
        return self.due or str(self.worth)


class Run:
    """What is given, and what was found so far."""

    def __init__(self, fleet: MovableFleet, now: float) -> None:
        self.fleet, self.now = fleet, now
        self.books, self.scales = Books(fleet), Scales(fleet)
        self.limits = Limits(fleet, self.scales, now)
        self.contested: set[str] = set()
        """Pools that others wait for."""
        self._taken: set[str] = set()
        self._movable: dict[str, tuple[Replica, ...]] = {}
        self._moves: list[Move] = []
        self._later: list[Move] = []
        self._refused: list[Refusal] = []
        self._reserved: list[Reserved] = []

    @property
    def plan(self) -> Plan:
        """What was found."""
        return Plan(
            moves=tuple(self._moves),
            later=tuple(self._later),
            refused=tuple(self._refused),
            reserved=tuple(self._reserved),
        )

    def never(self, replica: Replica) -> tuple[Because, str] | None:
        """Return why a replica can't be part of a proposal, or None."""
        return self._part(replica) or self.limits.never(replica)

    def bound(self, replica: Replica) -> tuple[Because, str] | None:
        """Return the same for a proposal that waits for no rest."""
        return self._part(replica) or self.limits.bound(replica)

    def _part(self, replica: Replica) -> tuple[Because, str] | None:
        if replica.uid in self._taken:
            return Because.HELD, "it is part of another proposal"
        return None

    def movable(self, node: str) -> tuple[Replica, ...]:
        """Return the replicas of a node that can be part of a proposal."""
        found = self._movable.get(node)
        if found is None:
            there = self.fleet.by_node.get(node, ())
            found = self._movable[node] = tuple(r for r in there if self.never(r) is None)
        return found

    def place(self, replica: Replica, option: Option, allowed: Allowed) -> Step | None:
        """Book the best other node of a pool for a replica; None where there is none."""
        node = self.books.place(replica, option, lambda n: n.name != replica.node and allowed(n))
        if node is None:
            return None
        step = Step(replica, option, node)
        self.books.start(step)
        return step

    def judge(self, proposal: Proposal) -> tuple[Because, str] | None:
        """Accept a proposal whose steps are booked; or take them back, and return why."""
        why: tuple[Because, str] | None = None
        waits = [self.limits.not_now(step.replica) for step in proposal.steps]
        if proposal.due is None and not proposal.worth.enough:
            why = Because.LITTLE_GAIN, str(proposal.worth)
        elif all(waits):
            why = waits[0]
        if why is None:
            self._accept(proposal)
            return None
        self.books.undo(proposal.steps)
        text = f"{proposal.promise}: {why[1]}"
        self.refuse(proposal.reason, proposal.steps[0].replica, why[0], text)
        return why

    def _accept(self, proposal: Proposal) -> None:
        uids = tuple(s.replica.uid for s in proposal.steps)
        for step in proposal.steps:
            self._taken.add(step.replica.uid)
            self._movable.pop(step.replica.node, None)
            move = _move(step, proposal, uids, self.fleet.pool_of[step.replica.pool])
            wait = self.limits.not_now(step.replica)
            if wait is None:
                self.limits.start(step.replica)
                self._moves.append(move)
            else:
                self._later.append(replace(move, text=f"{move.text}; not yet: {wait[1]}"))

    def refuse(self, reason: MoveReason, of: Replica, because: Because, why: str) -> None:
        """Note a move that is not made."""
        text = f"{of.service}: {of.pod} stays on {of.node}: {why}"
        self._refused.append(Refusal(reason, because, of.service, of.pod, of.node, text))

    def no_room(self, service: ServiceKey, because: Because, why: str) -> None:
        """Note that no room is made for a replica that waits."""
        reason = MoveReason.DEFRAGMENTATION
        self._refused.append(Refusal(reason, because, service, None, None, f"{service}: {why}"))

    def reserve(self, service: ServiceKey, pool: Pool, node: str, option: Option) -> None:
        """Keep a place for a replica that waits."""
        self.books.reserve(pool, self.fleet.nodes[node], option.shape.need)
        self._reserved.append(Reserved(node, pool.name, service, option.shape.need))


def total(steps: Sequence[Step]) -> list[Replica]:
    """Return the replicas that move."""
    return [step.replica for step in steps]


def _move(step: Step, proposal: Proposal, uids: tuple[str, ...], pool: Pool) -> Move:
    one, worth, price = step.replica, proposal.worth, proposal.price
    size = amount(float(pool.gpus_of(one.shape.need.gpus)), pool)
    where = step.node or "a node that an autoscaler brings"
    pools = "" if one.pool == step.option.pool else f" of pool {step.option.pool}"
    part = f", one of {len(uids)}" if len(uids) > 1 else ""
    text = (
        f"{one.service}: {one.pod} ({size}) moves from {one.node} to {where}{pools}{part}: "
        f"{proposal.promise}; {price}"
    )
    return Move(
        reason=proposal.reason,
        service=one.service,
        pod=one.pod,
        uid=one.uid,
        source_pool=one.pool,
        source_node=one.node,
        target_pool=step.option.pool,
        target_node=step.node,
        gained=worth.gained,
        moved=worth.moved,
        text=text,
        uids=uids,
        waiting=proposal.waiting,
    )
