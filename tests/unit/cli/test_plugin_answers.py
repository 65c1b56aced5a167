"""What kubectl conch says, from objects alone."""

import io
import json

import pytest
from rich.console import Console

from conch.api.conditions import ConditionType, Reason
from conch.cli import plugin_view as view
from conch.cli.plugin_advice import ADVICE
from conch.cli.plugin_callers import callers
from conch.cli.plugin_detach import DETACHED_MANAGER, _release
from conch.cli.plugin_explain import NOT_RUNNING, Explanation, explain
from conch.cli.plugin_read import Leader
from tests.unit.cli.objects import (
    ALIVE,
    NOW,
    POOL,
    Object,
    condition,
    meta,
    node,
    reading,
    replica,
    service,
)
from tests.unit.reconcile import bodies


def explained(body: Object, *others: Object, leader: Leader | None = ALIVE) -> Explanation:
    return explain(body, reading(body, *others, leader=leader), [], NOW)


def test_every_reason_is_explained() -> None:
    assert set(ADVICE) == set(Reason)
    for advice in ADVICE.values():
        assert advice.on
        assert set(advice.on) <= set(ConditionType)
        assert advice.means.endswith(".")


@pytest.mark.parametrize(
    ("told", "todo"),
    [
        (condition("Ready", "True", "Serving"), None),
        (condition("Stalled", "False", "Settled"), None),
        (condition("ScalingActive", "False", "FixedReplicas"), None),
        (condition("Loaded", "Unknown", "ModelLoading"), None),
        (condition("Loaded", "False", "LoadFailed"), "LoadFailed"),
        (condition("Stalled", "True", "Conflict"), "Conflict"),
        (condition("ScalingActive", "Unknown", "NoMetrics"), "NoMetrics"),
        (condition("ScalingActive", "True", "AtMaximum"), "AtMaximum"),
        (condition("ScalingActive", "False", "Paused"), "Paused"),
        # A later version's reason: its message has to do.
        (condition("Loaded", "False", "SomethingNew"), None),
    ],
    ids=lambda value: value["reason"] if isinstance(value, dict) else str(value),
)
def test_what_to_do(told: Object, todo: str | None) -> None:
    found = explained(service(told)).todo
    assert [line.partition(":")[0] for line in found] == ([todo] if todo else [])


def test_a_cause_is_told_once_and_with_the_name() -> None:
    told = [condition(t, "False", "NoReadyReplica") for t in ("Ready", "Loaded")]
    (todo,) = explained(service(*told)).todo
    assert "conch.dev/service=digits" in todo


def test_a_status_of_an_older_spec_is_told() -> None:
    (todo,) = explained(service(generation=2)).todo
    assert "newest spec" in todo


@pytest.mark.parametrize("leader", [None, Leader("conch-1", 31.0), Leader("", 1.0)])
def test_no_living_operator_is_told_first(leader: Leader | None) -> None:
    body = service(condition("Loaded", "False", "LoadFailed"), generation=2)
    todo = explained(body, leader=leader).todo
    assert todo[0] == NOT_RUNNING
    assert len(todo) == 2


OWN = "http://digits.vision.svc:8000"
DOOR = "http://door/vision/digits"


@pytest.mark.parametrize(
    ("url", "endpoint", "words"),
    [
        (None, {}, "nobody yet"),
        (OWN, {}, "whoever reaches it inside the cluster; there is no front door"),
        (DOOR, {}, "with a key of its own tenant"),
        (DOOR, {"tenants": ["research", "ops"]}, "its own tenant, or of research, or of ops"),
        (DOOR, {"tenants": ["research", "*"]}, "all that have a key"),
        (DOOR, {"access": "Open"}, "everybody, without a key"),
        (DOOR, {"access": "Nobody"}, "not known: spec.endpoint can't be read"),
        (
            DOOR,
            {"limits": {"requestsPerSecond": 0.5, "concurrentRequests": 4}},
            "each tenant at most 0.5 requests a second and 4 at a time",
        ),
        (DOOR, {"hosts": ["a.example", "b.example"]}, "also as a.example, b.example"),
    ],
)
def test_who_may_ask(url: str | None, endpoint: Object, words: str) -> None:
    body = service(url=url)
    body["spec"]["endpoint"] = endpoint
    assert words in explained(body).callers


def test_the_services_own_tenant_is_named_once() -> None:
    body = service(url=DOOR)
    body["spec"]["endpoint"] = {"tenants": ["research"]}
    assert callers(body, "research") == "with a key of research, its own tenant"


def test_addresses_and_callers_are_shown() -> None:
    out = Console(file=io.StringIO(), width=80)
    view.show_explanation(out, explained(service(url=DOOR, grpc="door:8001")))
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert {"URL", "gRPC", "Callers"} <= {line.split()[0] for line in text.splitlines() if line}
    assert DOOR in text
    assert "door:8001" in text


def test_text_fits_a_terminal_of_80_columns() -> None:
    long = "a sentence of many words that goes on " * 5 + "and/one/word/" * 20
    body = service(condition("Loaded", "False", "LoadFailed", long))
    out = Console(file=io.StringIO(), width=80)
    view.show_explanation(out, explained(body, POOL, node("n1")))
    lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80
    assert "".join("".join(lines).split()).count("and/one/word/") == 20


def test_answers_for_programs_are_spelled_as_the_api_does() -> None:
    explanation = explained(service(condition("Ready", "True", "Serving")), POOL, node("n1"))
    facts = json.loads(view.dump(explanation, view.Format.JSON))
    assert facts["conditions"][0]["ageSeconds"] == 120
    assert facts["wantedRevision"] is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0.4, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172800, "2d")],
)
def test_ages(seconds: float, text: str) -> None:
    assert view.age(seconds) == text


def test_a_child_is_freed_of_the_service_and_of_nothing_else() -> None:
    claim = {"manager": "conch", "operation": "Apply"}
    body = {
        "kind": "ConfigMap",
        "metadata": meta(
            "digits-1",
            labels={"app.kubernetes.io/managed-by": "conch"},
            ownerReferences=[{"uid": "uid-digits"}, {"uid": "another"}],
            managedFields=[claim, {"manager": "kubectl", "operation": "Update"}],
        ),
    }
    release = _release(body, "uid-digits")
    changed = release.patch["metadata"]
    assert changed["ownerReferences"] == [{"uid": "another"}]
    assert (changed["uid"], changed["resourceVersion"]) == ("uid-digits-1", "1")
    assert [entry["manager"] for entry in changed["managedFields"]] == [DETACHED_MANAGER, "kubectl"]
    assert release.done == ("owner reference removed", "label managed-by removed")


def test_a_replica_set_at_rest_keeps_the_gates_of_others() -> None:
    gates = [{"name": "kueue.x-k8s.io/admission"}]
    body = {
        "kind": "ReplicaSet",
        "metadata": meta("digits-1", labels={}),
        "spec": {"template": {"spec": {"schedulingGates": gates}}},
    }
    release = _release(body, "uid-digits")
    assert release.patch["spec"]["template"]["spec"] == {"schedulingGates": gates}
    assert release.done == ()


def test_nodes_that_show_signs_of_failing_are_told_with_replicas_and_pools() -> None:
    ill = node("n1")
    ill["status"]["conditions"].append({"type": "XIDErrors", "status": "True"})
    mine = replica("digits-1", "n1", gpus=1)
    source = {"kind": "Model", **bodies.model()}
    found = explained(service(), POOL, source, ill, node("n2"), mine)
    assert [p.state.partition(", ")[2] for p in found.pods] == ["its node shows XIDErrors"]
    (line,) = found.pools
    assert line.says == "signs of failing: n1 (XIDErrors)"
