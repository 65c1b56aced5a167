"""What Hypothesis makes is let in, varied, the same each time, and gets simpler; what differs is seen."""

import copy
from typing import Any

import pytest

from conch.api.model import ModelSpec
from conch.api.rollout import RolloutSpec
from conch.api.service import ModelServiceSpec
from tests.kit.differential import compare
from tests.kit.histories import History, Wish, drawn, histories

CASES = drawn(histories(), 60, 1)
MODEL: dict[str, Any] = {
    "variants": [
        {"name": "fp32", "source": {"uri": "https://h/p"}, "backend": "python", "instances": 2}
    ]
}
WISH = Wish({"model": {}, "replicas": 1, "placement": {"pools": ["a100"]}}, MODEL)
STILL = History(WISH, WISH, WISH, rushed=False)


def test_they_can_be_read_and_vary() -> None:
    assert len(CASES) == 60
    for case in CASES:
        for wish in (case.first, case.then, case.last):
            ModelServiceSpec.model_validate({**wish.service, "model": {"name": "m"}})
            if wish.model is not None:
                ModelSpec.model_validate(wish.model)
    assert 10 < sum(c.reverts for c in CASES) < 50
    assert 5 < sum(c.rushed for c in CASES) < 55
    assert any(c.last.model is None for c in CASES)


def test_the_same_number_draws_the_same() -> None:
    # Not those of CASES: other tests may have loaded modules since.
    ones = drawn(histories(), 60, 1)
    assert drawn(histories(), 60, 1) == ones
    assert drawn(histories(), 60, 2) != ones


def test_simpler_ones_lack_something_and_keep_what_is_needed() -> None:
    other = Wish({**WISH.service, "priority": 5}, {**MODEL, "task": "x"})
    history = History(WISH, other, WISH, rushed=True)
    simpler = list(history.simpler())
    assert STILL.size() in [s.size() for s in simpler]
    assert all(s.size() < history.size() for s in simpler)
    variants = [w.model["variants"] for s in simpler for w in (s.first, s.then) if w.model]
    assert all({"name", "source", "backend"} <= set(v[0]) for v in variants)
    assert any("instances" not in v[0] for v in variants)


def objects(**status: Any) -> dict[str, list[Any]]:
    conditions = [
        {"type": "Stalled", "status": "False", "reason": "Settled", "message": ""},
        {"type": "Admitted", "status": "True", "reason": "Placed", "message": ""},
    ]
    service = {"status": {"conditions": conditions, "replicas": 1, **status}, "upToDate": True}
    template = {"spec": {"containers": [{"name": "triton"}]}}
    labels = {"conch.dev/revision": "r", "conch.dev/pool": "a100", "conch.dev/serving": "on"}
    pod = {"metadata": {"labels": labels}, "spec": {}, "status": {}}
    replica_set = {
        "metadata": {"name": "s-r-a100", "labels": labels},
        "spec": {"replicas": 1, "template": template},
    }
    return {
        "modelservices": [service],
        "replicasets": [replica_set],
        "pods": [pod],
        "services": [{"metadata": {}, "spec": {"selector": {"conch.dev/revision": "r"}}}],
        "poddisruptionbudgets": [{"spec": {"maxUnavailable": 0}}],
        "controllerrevisions": [snapshot("r")],
        "configmaps": [{"metadata": {"name": "s-r"}, "data": {"config.pbtxt": ""}}],
        "serviceaccounts": [{"metadata": {"name": "s"}}],
    }


def snapshot(revision: str) -> dict[str, Any]:
    labels = {"conch.dev/revision": revision}
    return {"metadata": {"name": f"s-{revision}", "labels": labels}, "data": {}}


def test_equals_are_equal() -> None:
    assert not list(compare(STILL, objects(), objects(), served=True))


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("modelservices", ("status", "replicas"), 2),
        ("modelservices", ("upToDate",), False),
        ("replicasets", ("spec", "template", "spec", "schedulingGates"), [{"name": "x"}]),
        ("replicasets", ("spec", "replicas"), 2),
        ("services", ("spec", "selector", "conch.dev/revision"), "old"),
        ("poddisruptionbudgets", ("spec", "maxUnavailable"), 1),
        ("pods", ("metadata", "labels", "conch.dev/serving"), ""),
        ("configmaps", ("data", "config.pbtxt"), "x"),
        ("serviceaccounts", ("metadata", "name"), "other"),
    ],
)
def test_what_differs_is_seen(kind: str, path: tuple[str, ...], value: Any) -> None:
    changed = objects()
    part = changed[kind][0]
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    assert list(compare(STILL, changed, objects(), served=True))


def test_leftovers_are_seen_and_a_few_past_revisions_are_none() -> None:
    more = objects()
    most = RolloutSpec().revision_history_limit
    more["controllerrevisions"] += [snapshot(f"past-{n}") for n in range(most)]
    assert not list(compare(STILL, more, objects(), served=True))
    more["controllerrevisions"].append(snapshot("older"))
    assert list(compare(STILL, more, objects(), served=True))
    other = objects()
    other["controllerrevisions"][0]["data"] = {"x": "y"}
    assert list(compare(STILL, other, objects(), served=True))


def test_where_c_cannot_work_the_reason_counts_and_what_served_goes_on() -> None:
    stalled = objects()
    stalled["modelservices"][0]["status"]["conditions"][0] |= {"status": "True", "reason": "X"}
    other = copy.deepcopy(stalled)
    other["modelservices"][0]["status"]["conditions"][0]["reason"] = "Y"
    assert not list(compare(STILL, stalled, stalled, served=False))
    assert list(compare(STILL, other, stalled, served=False))
    (text,) = compare(STILL, stalled, stalled, served=True)
    assert "what served before does no longer" in text
