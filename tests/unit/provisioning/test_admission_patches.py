"""The patch that admits and places a pod."""

from typing import Any

from conch.provisioning.pin import admission_patch

EXPRESSION = {"key": "gpu", "operator": "In", "values": ["T4"]}
NAME = {"key": "metadata.name", "operator": "In", "values": ["node-1"]}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def _pod(*terms: dict[str, Any]) -> dict[str, Any]:
    affinity = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}} if terms else None
    return {
        "metadata": {"name": "p", "uid": "u", "resourceVersion": "7"},
        "spec": {"affinity": affinity},
    }


def _terms(patch: dict[str, Any]) -> Any:
    return patch["spec"]["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]


def test_only_our_gate_is_lifted_and_only_from_the_pod_that_was_seen() -> None:
    assert admission_patch(_pod({"matchExpressions": [EXPRESSION]}), None) == {
        "metadata": {"uid": "u", "resourceVersion": "7"},
        "spec": {"schedulingGates": [{"name": "conch.dev/placement", "$patch": "delete"}]},
    }


def test_every_term_is_narrowed_to_the_node_and_otherwise_repeated() -> None:
    pod = _pod({"matchExpressions": [EXPRESSION]}, {"matchFields": [NAME]})
    assert _terms(admission_patch(pod, "node-1")) == [
        {"matchExpressions": [EXPRESSION], "matchFields": [NAME]},
        {"matchFields": [NAME, NAME]},
    ]
    assert (
        "matchFields"
        not in pod["spec"]["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"][0]
    )


def test_a_pod_is_kept_off_nodes_where_the_scheduler_chooses() -> None:
    pod = _pod({"matchExpressions": [EXPRESSION]})
    others = [{**NAME, "operator": "NotIn", "values": [n]} for n in ("n1", "n2")]
    patch = admission_patch(pod, None, migration="move", avoid=("n1", "n2"))
    assert _terms(patch) == [{"matchExpressions": [EXPRESSION], "matchFields": others}]
    assert _terms(admission_patch(pod, "node-1", avoid=("n1",))) == [
        {"matchExpressions": [EXPRESSION], "matchFields": [NAME]}
    ]


def test_a_pod_without_affinity_gets_one() -> None:
    assert _terms(admission_patch(_pod(), "node-1")) == [{"matchFields": [NAME]}]


def test_who_takes_anothers_place_gets_no_traffic_and_is_known_to_have_been_disturbed() -> None:
    moved = admission_patch(_pod(), "node-1", migration="move")["metadata"]
    assert moved["annotations"] == {"conch.dev/migration": "move"}
    assert moved["labels"] == {"conch.dev/serving": None}
    fled = admission_patch(_pod(), "node-1", migration="move", disturbed=True)["metadata"]
    assert fled["annotations"] == {"conch.dev/migration": "move", "conch.dev/disturbed": "true"}
