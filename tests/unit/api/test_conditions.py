"""How a list of conditions changes."""

from conch.api.conditions import Condition, ConditionType, Reason, Wish, updated

EARLIER = "2024-01-01T00:00:00Z"
NOW = "2024-01-01T00:05:00Z"


def wish(
    kind: ConditionType = ConditionType.READY,
    *,
    status: bool | None = True,
    reason: Reason = Reason.SERVING,
    message: str = "2 of 2 replicas answer",
) -> Wish:
    return Wish(type=kind, status=status, reason=reason, message=message)


def before(*wishes: Wish) -> list[Condition]:
    return updated([], wishes, generation=1, now=EARLIER)


def test_a_new_condition_starts_now() -> None:
    (condition,) = updated([], [wish()], generation=3, now=NOW)
    assert condition.to_dict() == {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "2 of 2 replicas answer",
        "lastTransitionTime": NOW,
        "observedGeneration": 3,
    }


def test_reason_and_message_change_without_a_transition() -> None:
    change = wish(reason=Reason.SCALED_TO_ZERO, message="other")
    (condition,) = updated(before(wish()), [change], generation=2, now=NOW)
    assert condition.last_transition_time == EARLIER
    assert (condition.reason, condition.message) == ("ScaledToZero", "other")
    assert condition.observed_generation == 2


def test_each_change_of_status_is_a_transition() -> None:
    for old, new in [(True, False), (False, None), (None, True)]:
        (condition,) = updated(before(wish(status=old)), [wish(status=new)], generation=1, now=NOW)
        assert condition.last_transition_time == NOW
        assert condition.status == {True: "True", False: "False", None: "Unknown"}[new]


def test_equal_facts_give_equal_lists_in_one_order() -> None:
    ready, stalled = wish(), wish(ConditionType.STALLED, reason=Reason.SETTLED)
    old = before(stalled, ready)
    assert [c.type for c in old] == ["Ready", "Stalled"]
    assert updated(old, [ready, stalled], generation=1, now=NOW) == old


def test_what_is_no_longer_wished_goes() -> None:
    old = before(wish(), wish(ConditionType.STALLED, reason=Reason.INVALID_SPEC))
    assert [c.type for c in updated(old, [wish()], generation=1, now=NOW)] == ["Ready"]


def test_a_long_message_is_cut_to_what_the_api_takes() -> None:
    (condition,) = before(wish(message="x" * 5000))
    assert len(condition.message) == 4096
