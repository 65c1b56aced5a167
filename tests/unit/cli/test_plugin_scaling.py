"""Why this many replicas, in sentences."""

import re
from typing import Any

import pytest

from conch.cli.plugin_scaling import reasons
from conch.decisions.scaling import ScalingState, decide
from conch.decisions.scaling.account import Decided, account
from tests.unit.decisions.scaling.story import story


def fresh() -> dict[str, Any]:
    """Return the account of the first decision on a service."""
    load = story().load
    return account(Decided(load, decide(load, ScalingState(), 0.0), 0.0), 0.0)


def told(seconds: float = 60.0, rate: float = 18.0, **load: Any) -> str:
    """Return what is said of a service after so much load."""
    tale = story(**load)
    tale.run(rate, seconds)
    return "\n".join(reasons(account(Decided(tale.seen, tale.last, tale.now), 2.0)))


def test_it_leads_from_the_load_to_the_number() -> None:
    text = told()
    assert " replicas are wanted, " in text
    assert re.search(r"items/s on NVIDIA-A100 within 1 s; \d+% of it are planned for", text)
    assert "9 of 10 replicas start within 20 s." in text
    assert "0.10% of the requests may be late" in text
    assert "Bounds: 1 to 8." in text
    assert re.search(r"Able to serve [\d.]+ items/s is what is wanted: \d+% above the mean", text)


def test_it_says_where_the_capacity_is_from() -> None:
    assert "declared: 100 ms + 0 ms an item" in told(seconds=5)
    assert "measured (" in told(rate=6.0, seconds=300)
    assert "is not known yet" in told(profiles=False, seconds=5)


def test_it_names_writer_and_schedule() -> None:
    text = told(fixed=2, fixed_by="written by helm", minimum=2, floor_reason="the schedule x: 2")
    assert "Bounds: 2 to 8; spec.replicas asks for 2, written by helm." in text
    assert "The lower one is that of the schedule x: 2." in text


def test_it_says_what_stands_by() -> None:
    assert "Beyond what the load asks for, 2 stand by while the service has any." in told(standby=2)
    assert "stand by" not in told()
    assert "stand by" not in told(standby=2, fixed=3)


def test_it_says_what_holds_less_back() -> None:
    values = fresh()
    values["figures"] = {"window_left_s": 120.0, "cooldown_left_s": 30.0}
    text = "\n".join(reasons(values))
    assert "Less would do, but was more within 300 s: nothing goes for another 120 s." in text
    assert "A cool-down holds it for another 30 s." in text


@pytest.mark.parametrize("figure", ["mean", "recent", "backlog"])
def test_each_part_of_the_demand_is_told(figure: str) -> None:
    values = fresh()
    values["figures"] = {"demand": 10.0, figure: 1.25, "late": None}
    (line,) = [r for r in reasons(values) if r.startswith("Asked for")]
    assert "1.25" in line


def test_what_other_days_had_at_this_hour_is_told_once_it_counts() -> None:
    values = fresh()
    values["figures"] = {"season": 60.0, "skill": 0.4}
    (line,) = [r for r in reasons(values) if "time of day" in r]
    assert "60 items/s before; other days tell it 40% better" in line
    assert "time of day" not in told(rate=6.0, seconds=120)


def test_the_margin_and_the_late_requests_are_told() -> None:
    text = told(rate=6.0, seconds=120)
    assert re.search(r"Kept above that: \d+%: within a load time it rose by \d+% at times", text)
    assert re.search(r"lately \d+\.\d\d% were, by their waits", text)
    assert "items/s." in text


def test_what_the_front_door_tells_is_said_of_who_may_sleep() -> None:
    words = (
        "3 requests wait at the front door for a replica.",
        "A request last had to wait for a replica 5 s ago.",
        "Not every replica of the front door reports (for 40 s)",
    )
    asked = {"minimum": 0, "held_back": 3.0, "asked_ago": 5.0, "deaf": 40.0}
    text = told(may_sleep=True, **asked)
    assert all(part in text for part in words)
    assert not any(part in told(**asked) for part in words)
    assert re.search(
        r"Nobody has asked for 1\d\d s; it sleeps",
        told(rate=0.0, seconds=200, minimum=0, may_sleep=True),
    )
