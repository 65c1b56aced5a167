"""What a hand edits or deletes is put right; what others add is left alone."""

import json

import pytest

from e2e.kubectl import wait_for
from e2e.scratch import READY_S, Object, Scratch, adding, python_model, service, uids
from e2e.traffic import more_answers, steady

pytestmark = pytest.mark.cluster

OTHERS = {"labels": {"team": "vision"}, "annotations": {"example.com/owner": "someone"}}


def test_children_edited_or_deleted_by_hand_are_put_right(place: Scratch) -> None:
    place.apply(*python_model("add", adding(1)), service("add", pools=("t4",)))
    pods = place.await_ready("add")
    children = [
        ("service", "add"),
        ("poddisruptionbudget", "add"),
        ("replicaset", only(place, "replicaset")["metadata"]["name"]),
        ("configmap", only(place, "configmap")["metadata"]["name"]),
        ("serviceaccount", pods[0]["spec"]["serviceAccountName"]),
    ]
    place.kubectl("patch", "service", "add", "--type=merge", "-p", json.dumps({"metadata": OTHERS}))
    before = {child: essence(place.there(*child)) for child in children}

    merge(place, *children[0], {"spec": {"selector": {"conch.dev/revision": "none"}}})
    merge(place, *children[1], {"spec": {"maxUnavailable": 1}})
    image = [{"name": "triton", "image": "127.0.0.1:1/triton:edited"}]
    template = {"template": {"spec": {"containers": image}}}
    place.kubectl("patch", *children[2], "-p", json.dumps({"spec": {**template, "replicas": 2}}))
    merge(place, *children[3], {"data": dict.fromkeys(before[children[3]]["data"], "edited")})
    merge(place, *children[4], {"automountServiceAccountToken": True})
    put_right(place, before)

    for child in children[:2] + children[3:]:
        place.kubectl("delete", *child)
    # Others' additions went with the Service.
    before[children[0]]["metadata"] = {"labels": {}, "annotations": {}}
    put_right(place, before)

    (kept,) = place.await_ready("add")
    assert uids([kept]) == uids(pods)
    with steady(place, "add", rate=5) as tally:
        more_answers(tally)


def only(place: Scratch, kind: str) -> Object:
    """Return the one child of a kind."""
    (found,) = place.all(kind, "-l", "conch.dev/service=add")
    return found


def merge(place: Scratch, kind: str, name: str, patch: Object) -> None:
    """Edit an object, and see that this changed it."""
    before = place.there(kind, name)["metadata"]["resourceVersion"]
    told = place.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(patch), "-o", "json")
    assert json.loads(told)["metadata"]["resourceVersion"] != before


def essence(body: Object) -> Object:
    """Return what an object says, without versions, addresses and status."""
    metadata = body["metadata"]
    spec = {k: v for k, v in body.get("spec", {}).items() if not k.startswith("clusterIP")}
    return {
        "spec": spec,
        "data": body.get("data", {}),
        "token": body.get("automountServiceAccountToken"),
        "owner": [o["uid"] for o in metadata.get("ownerReferences", [])],
        "metadata": {
            "labels": {
                k: v for k, v in metadata.get("labels", {}).items() if k in OTHERS["labels"]
            },
            "annotations": {
                k: v
                for k, v in metadata.get("annotations", {}).items()
                if k in OTHERS["annotations"]
            },
        },
    }


def put_right(place: Scratch, wanted: dict[tuple[str, str], Object]) -> None:
    """Wait until all children say again what they should."""

    def wrong() -> list[str]:
        return [
            f"{child}: {found}"
            for child, essential in wanted.items()
            if not (found := place.get(*child)) or essence(found) != essential
        ]

    wait_for(
        "children to be put right",
        lambda: not wrong(),
        timeout=READY_S,
        seen=lambda: "; ".join(wrong()),
    )
