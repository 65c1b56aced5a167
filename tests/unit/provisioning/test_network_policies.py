"""Whom the pods of an isolated service let in."""

from typing import Any

from conch.provisioning.children import service_children
from conch.provisioning.network_policy import Isolation
from conch.provisioning.replica_set import replica_set
from tests.kit.rendering import OWNER, POOL, example

ANYBODY = Isolation("conch-system")
FRONT_DOOR = {"conch.dev/front-door": "on"}
NAME = "kubernetes.io/metadata.name"


def policy(isolation: Isolation, service: str = "digits") -> dict[str, Any]:
    made = service_children(example(service=service), owner=OWNER, isolation=isolation)
    (found,) = [m for m in made if m["kind"] == "NetworkPolicy"]
    return found


def selects(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Tell whether a label selector matches, by the rules of the Kubernetes API."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels", {}).items()
    told = selector.get("matchExpressions", [])
    assert all(e["operator"] == "In" for e in told)
    return wanted <= labels.items() and all(labels.get(e["key"]) in e["values"] for e in told)


def lets_in(body: dict[str, Any], port: int, namespace: str, labels: dict[str, str]) -> bool:
    """Tell whether a pod of a namespace reaches a port; there is no other policy."""

    def allows(rule: dict[str, Any]) -> bool:
        if port not in [p["port"] for p in rule["ports"]]:
            return False
        peers = rule.get("from")
        return peers is None or any(
            selects(p["namespaceSelector"], {NAME: namespace})
            and ("podSelector" not in p or selects(p["podSelector"], labels))
            for p in peers
        )

    return any(map(allows, body["spec"]["ingress"]))


def test_there_is_none_unless_services_are_isolated() -> None:
    kinds = [m["kind"] for m in service_children(example(), owner=OWNER)]
    assert "NetworkPolicy" not in kinds


def test_it_holds_for_the_pods_of_every_revision_and_no_others() -> None:
    spec = policy(ANYBODY)["spec"]
    template = replica_set(example(), POOL, replicas=1, gated=False, owner=OWNER)["spec"][
        "template"
    ]
    pods = template["metadata"]["labels"]
    assert selects(spec["podSelector"], pods)
    assert selects(spec["podSelector"], {**pods, "conch.dev/revision": "other"})
    del pods["conch.dev/serving"]
    assert selects(spec["podSelector"], pods), "one that drains too"
    assert not selects(spec["podSelector"], {**pods, "conch.dev/service": "other"})
    assert spec["policyTypes"] == ["Ingress"]


def test_a_long_name_selects_as_the_pods_are_labelled() -> None:
    name = "s" * 70
    template = replica_set(example(service=name), POOL, replicas=1, gated=False, owner=OWNER)[
        "spec"
    ]["template"]
    assert selects(policy(ANYBODY, name)["spec"]["podSelector"], template["metadata"]["labels"])


def test_the_front_door_alone_asks_for_inference() -> None:
    body = policy(ANYBODY)
    for port in (8000, 8001):
        assert lets_in(body, port, "conch-system", FRONT_DOOR)
        assert not lets_in(body, port, "conch-system", {"app": "other"})
        assert not lets_in(body, port, "vision", FRONT_DOOR), "anybody may label their own pods"
        assert not lets_in(body, port, "vision", {})
    assert not lets_in(body, 9000, "conch-system", FRONT_DOOR)


def test_metrics_are_for_everybody_unless_namespaces_are_named() -> None:
    assert lets_in(policy(ANYBODY), 8002, "anywhere", {})
    body = policy(Isolation("conch-system", ("ops", "monitoring", "ops")))
    assert lets_in(body, 8002, "ops", {})
    assert lets_in(body, 8002, "monitoring", {"app": "prometheus"})
    assert not lets_in(body, 8002, "vision", {})
    assert not lets_in(body, 8000, "ops", {})


def test_it_belongs_to_the_service() -> None:
    meta = policy(ANYBODY)["metadata"]
    assert (meta["name"], meta["namespace"]) == ("digits", "vision")
    assert meta["ownerReferences"][0]["uid"] == OWNER.uid
    assert meta["labels"] == {
        "app.kubernetes.io/managed-by": "conch",
        "conch.dev/service": "digits",
    }
