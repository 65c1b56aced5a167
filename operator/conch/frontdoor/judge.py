"""Which replicas answer no inference any more, from what their requests came to. Pure.

A replica whose health is fine may hang, or fail at everything. What callers see makes it suspect;
only a question of the front door's own, which it does not answer either, has it taken out: inputs
that break a model would else take out one replica after the other.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from conch.frontdoor.traffic import Request

FAILURES = 5
"""One after the other, that make a replica suspect."""
LEAST_SILENCE_S = 5.0
"""For which a replica with requests under way may answer none, at least."""
PATIENCE = 4.0
"""Times the slowest of its service's last answers, for which it may."""
REMEMBERED = 50
ASK_AGAIN_S = 5.0
"""Between two questions to one replica."""
_GRPC_FAILURES = frozenset({2, 13, 14, 15})
"""UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS; the others are the caller's matter."""
_NOT_IMPLEMENTED = 501


class Outcome(Enum):
    """What a request says of the replica that took it."""

    GOOD = auto()
    BAD = auto()
    NOTHING = auto()


def outcome(request: Request) -> Outcome:
    """Return what a request says of its replica. One that its caller left says nothing."""
    if request.ended.startswith("C"):
        return Outcome.NOTHING
    if request.ended.startswith(("S", "s")) or request.grpc in _GRPC_FAILURES:
        return Outcome.BAD
    failed = request.status >= 500 and request.status != _NOT_IMPLEMENTED
    return Outcome.BAD if failed else Outcome.GOOD


@dataclass(slots=True)
class _Record:
    """What is known of one replica."""

    failures: int = 0
    answered_at: float = 0.0
    """When it answered last, whatever; when it was first seen, before that."""
    asked_at: float = -ASK_AGAIN_S
    busy_since: float | None = None


@dataclass
class Judge:
    """Remembers outcomes by replica (its pod's UID). Times in monotonic seconds."""

    broken: dict[str, str] = field(default_factory=dict)
    """Why, by replica."""
    _records: dict[str, _Record] = field(default_factory=dict)
    _slow: dict[str, deque[float]] = field(default_factory=dict)
    """Seconds of the last answers, by service."""

    def failed(self, uid: str, now: float) -> None:
        """Take over that a replica failed at a request that another one answered then."""
        record = self._records.setdefault(uid, _Record(answered_at=now))
        record.answered_at = now
        record.failures += 1

    def saw(self, request: Request, uid: str, now: float) -> None:
        """Take over a request that a replica took."""
        record = self._records.setdefault(uid, _Record(answered_at=now))
        found = outcome(request)
        if found is Outcome.NOTHING:
            return
        record.answered_at = now
        if found is Outcome.BAD:
            record.failures += 1
            return
        record.failures = 0
        self._slow.setdefault(request.service, deque(maxlen=REMEMBERED)).append(request.seconds)

    def busy(self, under_way: Mapping[str, int], now: float) -> None:
        """Take over how many requests each replica has under way."""
        for uid, count in under_way.items():
            record = self._records.setdefault(uid, _Record(answered_at=now))
            if count == 0:
                record.busy_since = None
            elif record.busy_since is None:
                record.busy_since = now

    def patience(self, service: str) -> float:
        """Return for how many seconds a replica of a service may answer nothing."""
        return max(LEAST_SILENCE_S, PATIENCE * max(self._slow.get(service, ()), default=0.0))

    def suspects(self, replicas: Mapping[str, str], now: float) -> dict[str, str]:
        """Return whom to ask now, of the replicas (UID: service), with what speaks against each.

        One that was found broken is asked again, too: it may have come to itself.
        """
        found = {}
        for uid, service in replicas.items():
            record = self._records.get(uid)
            if record is None or now - record.asked_at < ASK_AGAIN_S:
                continue
            why = self.broken.get(uid) or self._charge(record, service, now)
            if why is not None:
                found[uid] = why
        return found

    def _charge(self, record: _Record, service: str, now: float) -> str | None:
        if record.failures >= FAILURES:
            return f"{record.failures} requests failed one after the other"
        if record.busy_since is None:
            return None
        silent = now - max(record.busy_since, record.answered_at)
        if silent > self.patience(service):
            return f"no answer for {silent:.0f} s, with requests under way"
        return None

    def asked(self, uid: str, why: str, answer: str | None, now: float) -> bool:
        """Take over how a replica answered the front door's own question: None is well.

        Return whether that changes what is thought of it.
        """
        record = self._records.setdefault(uid, _Record(answered_at=now))
        record.asked_at = now
        before = uid in self.broken
        if answer is None:
            record.failures, record.answered_at = 0, now
            self.broken.pop(uid, None)
        else:
            self.broken.setdefault(uid, f"{why}; asked by the front door itself: {answer}")
        return before != (uid in self.broken)

    def keep(self, uids: Iterable[str], services: Iterable[str]) -> None:
        """Forget all replicas and services but these."""
        known, named = set(uids), set(services)
        for memory, kept in ((self._records, known), (self.broken, known), (self._slow, named)):
            for key in memory.keys() - kept:
                del memory[key]
