"""The marks by which other controllers know pods."""

from typing import Any

import pytest

from conch.provisioning.coexistence import Coexistence, coexistence
from conch.provisioning.pod import pod_template
from tests.kit.rendering import POOL, example

ALL = ("kueue", "kai", "priority-classes", "karpenter=15m", "cluster-autoscaler", "descheduler")


def pod(*words: str, tenant: str | None = "research", **spec: Any) -> Any:
    of = example(spec=spec).beside(coexistence(words), tenant=tenant)
    return pod_template(of, POOL, gated=False)


def test_nobody_is_thought_to_be_there_unless_it_is_said() -> None:
    assert coexistence(()) == Coexistence()
    assert pod() == pod_template(example(), POOL, gated=False)


def test_queues_are_named_like_the_tenant_unless_one_is_set() -> None:
    assert pod("kueue")["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert pod("kueue=all")["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "all"
    assert pod("kai")["metadata"]["labels"]["kai.scheduler/queue"] == "research"
    assert pod("kai=all")["metadata"]["labels"]["kai.scheduler/queue"] == "all"


def test_without_a_tenant_the_others_own_default_holds() -> None:
    made = pod("kueue", "kai", tenant=None)
    assert not {"kueue.x-k8s.io/queue-name", "kai.scheduler/queue"} & set(
        made["metadata"]["labels"]
    )
    assert made["spec"]["schedulerName"] == "kai-scheduler"


def test_only_kai_has_a_scheduler_of_its_own() -> None:
    assert "schedulerName" not in pod("kueue", "karpenter=1h")["spec"]


@pytest.mark.parametrize(
    ("priority", "name"), [(-5, "conch-low"), (0, "conch-normal"), (3, "conch-high")]
)
def test_the_priority_of_a_service_is_a_class_of_its_pods(priority: int, name: str) -> None:
    assert pod("priority-classes", priority=priority)["spec"]["priorityClassName"] == name


@pytest.mark.parametrize(("disruption", "safe"), [("Protect", "false"), ("Allow", "true")])
def test_the_autoscaler_hears_whether_a_service_may_be_evicted(disruption: str, safe: str) -> None:
    found = pod("cluster-autoscaler", disruption=disruption)["metadata"]["annotations"]
    assert found["cluster-autoscaler.kubernetes.io/safe-to-evict"] == safe


def test_what_a_service_writes_itself_goes_first() -> None:
    own = {
        "labels": {"kueue.x-k8s.io/queue-name": "mine"},
        "annotations": {"karpenter.sh/do-not-disrupt": "true"},
        "priorityClassName": "urgent",
    }
    made = pod(*ALL, podTemplate=own)
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "mine"
    assert made["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
    assert made["spec"]["priorityClassName"] == "urgent"


def test_marks_are_no_part_of_a_revision() -> None:
    marked = example(spec={"priority": 9}).beside(coexistence(ALL), tenant="research")
    assert marked.revision == example().revision
    assert marked.to_data() == example().to_data()


@pytest.mark.parametrize(
    "word", ["", "volcano", "karpenter", "karpenter=soon", "descheduler=yes", "priority_classes"]
)
def test_a_word_that_says_nothing_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="is none of kueue"):
        coexistence((word,))
