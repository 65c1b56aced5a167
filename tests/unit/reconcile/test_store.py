"""The store keeps the newest state, and forgets what is gone, however late it hears of it."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from conch.provisioning.pin import admission_patch
from conch.reconcile import views
from conch.reconcile.store import Store, version_of
from tests.unit.reconcile import bodies

Object = dict[str, Any]


def pod(name: str = "p", *, uid: str = "u1", version: int = 1, **fields: Any) -> Object:
    metadata = {"namespace": "ns", "name": name, "uid": uid, "resourceVersion": str(version)}
    return {"metadata": metadata, **fields}


def known(store: Store) -> dict[str, str]:
    return {o["metadata"]["uid"]: o["metadata"]["resourceVersion"] for o in store.all("Pod")}


def test_a_newer_state_replaces_an_older_one_and_not_the_other_way_round() -> None:
    store = Store()
    assert store.put("Pod", pod(version=5))
    assert not store.put("Pod", pod(version=4))
    assert not store.put("Pod", pod(version=5))
    assert store.put("Pod", pod(version=10))
    assert known(store) == {"u1": "10"}


def test_versions_are_numbers() -> None:
    assert version_of(pod(version=10)) > version_of(pod(version=9))
    assert version_of({"metadata": {"resourceVersion": "opaque"}}) == 0


def test_a_late_answer_does_not_revive_what_is_gone() -> None:
    store = Store()
    store.put("Pod", pod(version=1))
    assert store.drop("Pod", pod(version=2))
    assert not store.put("Pod", pod(version=3))
    assert known(store) == {}


def test_a_late_deletion_does_not_take_the_one_that_came_after() -> None:
    store = Store()
    store.put("Pod", pod(uid="new", version=9))
    assert not store.drop("Pod", pod(uid="old", version=5))
    assert known(store) == {"new": "9"}


def test_one_of_the_same_name_may_come_again() -> None:
    store = Store()
    store.put("Pod", pod(uid="old", version=1))
    store.drop("Pod", pod(uid="old", version=2))
    assert store.put("Pod", pod(uid="new", version=3))
    assert known(store) == {"new": "3"}


def test_a_list_drops_what_a_cut_watch_never_told() -> None:
    store = Store()
    store.put("Pod", pod("a", uid="a"))
    store.put("Pod", pod("b", uid="b"))
    before = store.before_list("Pod")
    assert store.after_list("Pod", before, [pod("b", uid="b")])
    assert known(store) == {"b": "1"}


def test_what_appeared_while_the_list_ran_stays() -> None:
    store = Store()
    before = store.before_list("Pod")
    store.put("Pod", pod("late", uid="late", version=7))
    assert not store.after_list("Pod", before, [])
    assert known(store) == {"late": "7"}


def test_one_that_was_made_again_while_the_list_ran_stays() -> None:
    store = Store()
    store.put("Pod", pod(uid="old", version=1))
    before = store.before_list("Pod")
    store.drop("Pod", pod(uid="old", version=2))
    store.put("Pod", pod(uid="new", version=3))
    store.after_list("Pod", before, [pod(uid="old", version=1)])
    assert known(store) == {"new": "3"}


def test_a_list_that_says_nothing_new_changes_nothing() -> None:
    store = Store()
    store.put("Pod", pod(version=3))
    assert not store.after_list("Pod", store.before_list("Pod"), [pod(version=3)])


def test_of_a_list_only_what_is_news_is_held_beside_what_is_known() -> None:
    store = Store()
    store.put("Pod", pod(version=3))
    (there,) = store.all("Pod")
    assert store.kept("Pod", pod(version=3)) is there
    newer = store.kept("Pod", bodies.pod("p", metadata={"managedFields": [{"manager": "x"}]}))
    assert "managedFields" not in newer["metadata"]
    assert newer["spec"]["nodeName"] == "n1"


def test_objects_come_in_one_order() -> None:
    store = Store()
    for name in ("b", "c", "a"):
        store.put("Pod", pod(name, uid=name))
    assert [o["metadata"]["name"] for o in store.all("Pod")] == ["a", "b", "c"]


def test_kinds_are_apart_and_unknown_ones_empty() -> None:
    store = Store()
    store.put("Pod", pod())
    assert store.get("Node", "p", "ns") is None
    assert list(store.all("Node")) == []
    assert store.get("Pod", "p", "ns") is not None


def test_what_nobody_reads_is_not_kept() -> None:
    store = Store()
    body = pod()
    body["metadata"]["managedFields"] = [{"manager": "kubelet"}]
    store.put("Pod", body)
    found = store.get("Pod", "p", "ns")
    assert found is not None
    assert "managedFields" not in found["metadata"]
    assert "managedFields" in body["metadata"]


@given(st.permutations(range(6)))
def test_events_of_one_object_may_come_in_any_order(order: list[int]) -> None:
    """Five states and a deletion, as watch, list and own answers may interleave them."""
    store = Store()
    for number in order:
        if number == 5:
            store.drop("Pod", pod(version=6))
        else:
            store.put("Pod", pod(version=number + 1))
    assert known(store) == {}


def test_what_a_stored_pod_leaves_out_changes_no_view_of_it() -> None:
    pinned = {"key": "metadata.name", "operator": "In", "values": ["n2"]}
    terms = {"nodeSelectorTerms": [{"matchFields": [pinned]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    side = {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "2"}}}
    written = bodies.pod("p", spec={"affinity": affinity, "initContainers": [side]})
    written = {"kind": "Pod", **written}
    written["spec"]["volumes"] = [{"name": "models", "emptyDir": {}}]
    written["spec"]["containers"][0]["env"] = [{"name": "A", "value": "b" * 500}]
    store = Store()
    store.put("Pod", written)
    kept = store.twin("Pod", written)
    assert kept is not None
    assert "volumes" not in kept["spec"]
    assert "env" not in kept["spec"]["containers"][0]
    assert views.pod_view(kept, ["n1"]) == views.pod_view(written, ["n1"])
    assert views.requests_of(kept) == views.requests_of(written)
    patch = admission_patch(kept, "n3")
    assert patch == admission_patch(written, "n3")


def test_words_that_come_again_are_kept_once() -> None:
    store = Store()
    for name in ("a", "b"):
        store.put("Node", json.loads(json.dumps(bodies.node(name))))
    first, second = store.all("Node")
    same = zip(sorted(first["status"]), sorted(second["status"]), strict=True)
    assert all(one is other for one, other in same)


def test_equal_parts_of_objects_are_kept_once_and_say_the_same() -> None:
    store = Store()
    spec = {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}, "x": [True, 1]}}]}
    for name in ("a", "b"):
        store.put("Pod", pod(name, uid=name, spec=json.loads(json.dumps(spec))))
    one, other = (store.get("Pod", name, "ns") for name in ("a", "b"))
    assert one is not None
    assert other is not None
    assert one["spec"]["containers"][0] is other["spec"]["containers"][0]
    assert json.dumps(one["spec"]) == json.dumps(spec)


def test_a_truth_is_no_number() -> None:
    store = Store()
    for name, value in (("a", 1), ("b", True), ("c", 1.0)):
        store.put("Pod", pod(name, uid=name, status={"part": {"value": value}}))
    said = [json.dumps(p["status"]["part"]["value"]) for p in store.all("Pod")]
    assert said == ["1", "true", "1.0"]


class TestOfAService:
    """What carries a service's label."""

    KEY = ("ns", "digits")

    def one(self, name: str, version: int, **labels: str) -> Object:
        labels = {"app.kubernetes.io/managed-by": "conch", "conch.dev/service": "digits", **labels}
        body = pod(name, uid=name, version=version)
        return {**body, "metadata": {**body["metadata"], "labels": labels}}

    def test_each_change_is_told_by_another_stamp(self) -> None:
        store, stamps = Store(), list[int]()

        def stamp() -> list[str]:
            stamps.append(store.stamp(self.KEY))
            return [p["metadata"]["name"] for p in store.family("Pod", self.KEY)]

        assert stamp() == []
        store.put("Pod", self.one("b", 1))
        store.put("Pod", self.one("a", 2))
        assert stamp() == ["a", "b"]
        store.put("Pod", self.one("a", 3))
        assert stamp() == ["a", "b"]
        store.drop("Pod", self.one("a", 4))
        assert stamp() == ["b"]
        store.put("Pod", self.one("b", 5, **{"conch.dev/service": "other"}))
        assert stamp() == []
        store.put("Pod", self.one("c", 6))
        assert stamp() == ["c"]
        some = [s for s in stamps if s]
        assert len(set(some)) == len(some) == 4

    def test_what_is_anothers_changes_nothing(self) -> None:
        store = Store()
        store.put("Pod", self.one("a", 1))
        before = store.stamp(self.KEY)
        store.put("Pod", self.one("b", 2, **{"conch.dev/service": "other"}))
        store.put("Pod", pod("c", uid="c"))
        assert store.stamp(self.KEY) == before


class TestOnANode:
    """The pods that are bound to a node, whoever made them."""

    def test_they_are_told_from_their_binding_to_their_end(self) -> None:
        store, stamps = Store(), list[int]()

        def stamp() -> list[str]:
            stamps.append(store.node_stamp("n1"))
            return [p["metadata"]["name"] for p in store.bound("n1")]

        store.put("Pod", pod(version=1))
        assert stamp() == []
        store.put("Pod", pod(version=2, spec={"nodeName": "n1"}))
        assert stamp() == ["p"]
        store.put("Pod", pod(version=3, spec={"nodeName": "n1"}, status={"phase": "Failed"}))
        assert stamp() == ["p"]
        store.drop("Pod", pod(version=4))
        assert stamp() == []
        store.put("Pod", pod(uid="u2", version=5, spec={"nodeName": "n1"}))
        assert stamp() == ["p"]
        some = [s for s in stamps if s]
        assert len(set(some)) == len(some) == 3

    def test_a_list_that_lacks_them_tells_too(self) -> None:
        store = Store()
        store.put("Pod", pod(version=1, spec={"nodeName": "n1"}))
        before = store.before_list("Pod")
        store.after_list("Pod", before, [])
        assert store.bound("n1") == ()
