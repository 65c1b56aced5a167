"""When a status and an Event are written, and when they are not."""

from dataclasses import replace
from typing import Any

from conch.api.conditions import Reason
from conch.clients.clock import iso
from conch.reconcile.resolve import Fault
from conch.reconcile.status import Outcome, service_status
from conch.reconcile.telling import WORDS_LAST_S, Teller
from tests.unit.reconcile import bodies
from tests.unit.reconcile.test_status import decided, facts, outcome, unready

NOW = 1_767_225_660.0


class Pen:
    """Stands for the writer and the recorder: keeps what they were told to write."""

    def __init__(self) -> None:
        self.statuses: list[Any] = []
        self.events: list[tuple[str, bool]] = []
        self.messages: list[str] = []

    async def status(self, _kind: str, body: Any, status: Any) -> bool:
        if body.get("status") == status:
            return False
        self.statuses.append(status)
        return True

    async def record(
        self, _about: Any, _kind: str, *, reason: str, message: str, warning: bool = False
    ) -> None:
        self.events.append((str(reason), warning))
        self.messages.append(message)


def teller() -> tuple[Teller, Pen]:
    pen: Any = Pen()
    return Teller(pen, pen), pen


def working(message: str, of: Outcome | None = None) -> Outcome:
    """Return a service that scales as it should, which is said in these words."""
    scaling = decided(1, active=True, reason=Reason.SCALING, message=message)
    return replace(of or outcome(facts(bodies.pod("p1"))), scaling=scaling)


def after(of: Outcome, status: Any) -> Outcome:
    """Return the outcome once its status was written."""
    version = str(int(of.facts.body["metadata"]["resourceVersion"]) + 1)
    metadata = {**of.facts.body["metadata"], "resourceVersion": version}
    body = {**of.facts.body, "metadata": metadata, "status": status}
    return replace(of, facts=replace(of.facts, body=body, versions=(version,)))


async def test_numbers_of_a_scaling_that_works_are_renewed_once_a_minute() -> None:
    told, pen = teller()
    first = working("2 items/s asked")
    await told.tell(first, NOW)
    settled = after(first, pen.statuses[-1])
    for second in range(1, int(WORDS_LAST_S)):
        busy = working(f"{second} items/s asked", settled)
        if told.told(busy, NOW + second) is None:
            await told.tell(busy, NOW + second)
    assert len(pen.statuses) == 1
    late = working("99 items/s asked", settled)
    assert told.told(late, NOW + WORDS_LAST_S) is None
    await told.tell(late, NOW + WORDS_LAST_S)
    assert len(pen.statuses) == 2
    assert "99 items/s" in str(pen.statuses[-1])


async def test_what_was_found_right_is_not_looked_at_again_for_a_minute() -> None:
    told, pen = teller()
    first = working("2 items/s asked")
    settled = after(first, service_status(first, iso(NOW)))
    await told.tell(settled, NOW)
    assert pen.statuses == []
    assert told.told(settled, NOW + 1) is not None


async def test_words_of_a_trouble_are_written_at_once() -> None:
    told, pen = teller()
    first = outcome(facts(), unplaceable=Fault(Reason.NO_POOL, "pool a100 is missing"))
    await told.tell(first, NOW)
    settled = after(first, pen.statuses[-1])
    again = replace(settled, unplaceable=Fault(Reason.NO_POOL, "pool t4 is missing"))
    assert told.told(again, NOW + 1) is None
    await told.tell(again, NOW + 1)
    assert "pool t4 is missing" in str(pen.statuses[-1])


async def test_while_more_is_coming_only_news_are_written() -> None:
    told, pen = teller()
    starting = outcome(facts(unready("p1")))
    await told.tell(starting, NOW, more_coming=True)
    settled = after(starting, pen.statuses[-1])
    two = replace(settled, wanted=2)
    await told.tell(two, NOW + 1, more_coming=True)
    assert len(pen.statuses) == 1
    await told.tell(two, NOW + 1)
    assert len(pen.statuses) == 2


async def test_a_start_is_one_event_and_a_trouble_and_its_end_are_one_each() -> None:
    told, pen = teller()
    starting = outcome(facts(unready("p1")))
    await told.tell(starting, NOW)
    assert pen.events == []
    serving = outcome(facts(bodies.pod("p1")))
    up = replace(
        serving, facts=replace(serving.facts, body=after(starting, pen.statuses[-1]).facts.body)
    )
    await told.tell(up, NOW + 1)
    assert pen.events == [("Serving", False)]
    homeless = replace(after(up, pen.statuses[-1]), unplaceable=Fault(Reason.NO_POOL, "none"))
    await told.tell(homeless, NOW + 2)
    assert pen.events[1:] == [("NoPool", True)]
    well = replace(after(homeless, pen.statuses[-1]), unplaceable=None)
    await told.tell(well, NOW + 3)
    assert pen.events[2:] == [("Placed", False)]


def wanting(replicas: int, of: Outcome | None = None) -> Outcome:
    """Return a service that scales to so many replicas."""
    return replace(working(f"{replicas} are wanted", of), wanted=replicas)


async def test_each_change_of_the_wanted_number_is_one_event_with_its_numbers() -> None:
    told, pen = teller()
    first = wanting(1)
    await told.tell(first, NOW)
    pen.events.clear()
    pen.messages.clear()
    settled = after(first, pen.statuses[-1])
    for second, replicas in enumerate((3, 3, 2), start=1):
        await told.tell(wanting(replicas, settled), NOW + second)
        settled = after(settled, pen.statuses[-1])
    assert pen.events == [("ScaledUp", False), ("ScaledDown", False)]
    assert pen.messages == [
        "from 1 to 3 replicas: 3 are wanted",
        "from 3 to 2 replicas: 2 are wanted",
    ]


async def test_a_change_during_a_restart_is_told_too() -> None:
    told, pen = teller()
    await told.tell(wanting(1), NOW)
    settled = after(wanting(1), pen.statuses[-1])
    another, pen = teller()
    await another.tell(wanting(4, settled), NOW + 60)
    assert pen.messages == ["from 1 to 4 replicas: 4 are wanted"]
    third, pen = teller()
    await third.tell(wanting(1, settled), NOW + 60)
    assert pen.messages == []


async def test_a_replica_that_is_replaced_is_told_once() -> None:
    told, pen = teller()
    plain = working("2 items/s asked")
    (pod,) = plain.facts.service.pods
    for uid in ("uid-1", "uid-1", "uid-2"):
        ill = replace(pod, uid=uid, broken="no answer to 12 requests in 8 s", replaced=True)
        service = replace(plain.facts.service, pods=(ill,))
        of = replace(plain, facts=replace(plain.facts, service=service))
        await told.tell(of, NOW)
    assert pen.events.count((str(Reason.REPLICA_NOT_ANSWERING), True)) >= 2
    words = "p1 is replaced: no answer to 12 requests in 8 s"
    assert pen.messages.count(words) == 2
