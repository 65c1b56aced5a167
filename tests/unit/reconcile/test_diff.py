"""When a live object needs no write."""

from typing import Any

import pytest

from conch.api.names import ANNOTATION_APPLIED
from conch.reconcile.diff import covers, digest, stamped


@pytest.mark.parametrize(
    ("live", "wish"),
    [
        ({"a": 1, "more": 2}, {"a": 1}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}),
        ({"cpu": "1"}, {"cpu": "1000m"}),
        ({"memory": "2147483648"}, {"memory": "2Gi"}),
        ({"port": 8000}, {"port": 8000}),
        ({}, {"flag": False, "list": [], "map": {}, "number": 0, "text": "", "none": None}),
        ({"l": [1, 2]}, {"l": [1, 2]}),
        (
            {"env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
            {"env": [{"name": "Y", "value": "2"}]},
        ),
        (
            {"ports": [{"name": "http", "port": 8000, "protocol": "TCP", "nodePort": 31000}]},
            {"ports": [{"name": "http", "port": 8000}]},
        ),
    ],
)
def test_nothing_to_write(live: Any, wish: Any) -> None:
    assert covers(live, wish)


@pytest.mark.parametrize(
    ("live", "wish"),
    [
        ({"a": 2}, {"a": 1}),
        ({}, {"a": 1}),
        ({"replicas": 3}, {"replicas": 0}),
        ({"replicas": 0}, {"replicas": 1}),
        ({"flag": True}, {"flag": False}),
        ({"cpu": "2"}, {"cpu": "1000m"}),
        ({"l": [2, 1]}, {"l": [1, 2]}),
        ({"l": [1, 2, 3]}, {"l": [1, 2]}),
        ({"l": "text"}, {"l": [1]}),
        ({"a": 1}, {"a": {"b": 1}}),
        ({"env": [{"name": "X", "value": "1"}]}, {"env": [{"name": "X", "value": "2"}]}),
        ({"env": []}, {"env": [{"name": "X", "value": "2"}]}),
        ({"gates": []}, {"gates": [{"name": "conch.dev/placement"}]}),
        ({"gates": [{"name": "conch.dev/placement"}]}, {"gates": []}),
        ({"selector": {"a": "1", "theirs": "2"}}, {"selector": {"a": "1"}}),
        (
            {"selector": {"matchLabels": {"a": "1", "x": "2"}}},
            {"selector": {"matchLabels": {"a": "1"}}},
        ),
    ],
)
def test_something_to_write(live: Any, wish: Any) -> None:
    assert not covers(live, wish)


def test_tolerations_of_one_key_are_told_apart() -> None:
    wish = [{"key": "gpu", "effect": "NoSchedule"}, {"key": "gpu", "effect": "NoExecute"}]
    assert covers(list(wish), wish)
    assert not covers([wish[0], wish[0]], wish)


def test_the_digest_tells_of_fields_that_are_left_out_now() -> None:
    """The live object holds more than the new wish says, which ``covers`` has to allow."""
    old = {"metadata": {"name": "x"}, "spec": {"a": 1, "b": 2}}
    new = {"metadata": {"name": "x"}, "spec": {"a": 1}}
    assert covers(stamped(old), new)
    assert stamped(old)["metadata"]["annotations"][ANNOTATION_APPLIED] != digest(new)


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})


def test_a_stamp_keeps_annotations_and_changes_nothing_in_place() -> None:
    body = {"metadata": {"name": "x", "annotations": {"k": "v"}}}
    assert set(stamped(body)["metadata"]["annotations"]) == {"k", ANNOTATION_APPLIED}
    assert body == {"metadata": {"name": "x", "annotations": {"k": "v"}}}
