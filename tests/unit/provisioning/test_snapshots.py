"""Revisions: what makes a new one, and that a stored one comes back as it was."""

import json
from typing import Any

import pytest

from conch.api.service import Disruption
from conch.provisioning.snapshot import Images, Snapshot
from tests.kit.rendering import IMAGES, example, service_spec

SET = Images("t", "c", triton_args=("--log-info=0",), triton_env={"B": "2", "A": "1"})
"""An installation with settings of its own for Triton."""


def test_a_revision_stays_the_same_over_versions_of_conch() -> None:
    # A change of this value would make every service of every user roll at an upgrade.
    assert example().revision == "88548b8bbe"


@pytest.mark.parametrize(
    "change",
    [
        {"variant": {"maxBatchSize": 8}},
        {"variant": {"source": {"uri": "pvc://models/digits/v2"}}},
        {"variant": {"resources": {"gpus": 2}}},
        {"variant": {"parameters": {"threads": "2"}}},
        {"spec": {"model": {"kind": "ClusterModel", "name": "digits"}}},
        {"spec": {"podTemplate": {"labels": {"team": "vision"}}}},
        {"spec": {"triton": {"args": ["--log-verbose=1"]}}},
        {"spec": {"triton": {"image": "example.com/triton:1"}}},
        {"spec": {"triton": {"responseCache": "64Mi"}}},
    ],
)
def test_what_pods_run_makes_a_new_revision(change: dict[str, Any]) -> None:
    assert example(**change).revision != example().revision


@pytest.mark.parametrize(
    "change",
    [
        {"images": Images(triton="example.com/triton:2", conch="example.com/conch:2")},
        {"images": SET},
        {"variant": {"accuracy": {"metric": "top1", "value": 0.5}}},
        {"variant": {"profile": {"T4": {"fixedMs": 1, "perItemMs": 2}}}},
        {"variant": {"instances": 1, "resources": {}}},  # the defaults, written out
        {"spec": {"scaling": {"minReplicas": 3, "maxReplicas": 9, "drainTimeout": "5s"}}},
        {"spec": {"placement": {"accelerators": ["T4"]}}},
        {"spec": {"objective": {"p99": "50ms"}}},
        {"spec": {"disruption": "Allow"}},
        {"spec": {"replicas": 4}},
        {"spec": {"priority": 7}},
        {"spec": {"scaling": {"maxReplicas": 3, "standby": 1}}},
        {"spec": {"endpoint": {"access": "Open", "hosts": ["a.example"], "timeout": "5s"}}},
    ],
)
def test_what_pods_do_not_run_makes_no_new_revision(change: dict[str, Any]) -> None:
    assert example(**change).revision == example().revision


def _stored(snapshot: Snapshot, **fields: Any) -> Snapshot:
    return Snapshot.from_data(
        json.loads(json.dumps(snapshot.to_data())),
        service=snapshot.service,
        namespace=snapshot.namespace,
        revision=snapshot.revision,
        spec=service_spec(**fields),
    )


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"spec": {"podTemplate": {"env": [{"name": "A", "value": "b"}]}}},
        {"spec": {"triton": {"responseCache": "64Mi"}}},
        {"variant": {"source": {"uri": "file:///srv/a"}}, "file_prefixes": ("/srv",)},
        {"variant": {"source": {"configMap": {"name": "digits"}}, "maxQueueDelay": "2ms"}},
        {"spec": {"model": {"kind": "ClusterModel", "name": "digits"}, "triton": {"args": ["-v"]}}},
    ],
)
def test_a_stored_snapshot_comes_back(change: dict[str, Any]) -> None:
    assert _stored(example(**change)) == example(**change)


def test_a_stored_snapshot_keeps_its_images_and_follows_the_service() -> None:
    stored = _stored(example(), scaling={"drainTimeout": "90s"}, disruption="Allow")
    assert (stored.triton_image, stored.fetch_image) == (IMAGES.triton, IMAGES.conch)
    assert (stored.drain_seconds, stored.disruption) == (90, Disruption.ALLOW)
    assert stored == example().following(
        service_spec(scaling={"drainTimeout": "90s"}, disruption="Allow")
    )


def test_stored_data_depend_on_nothing_that_a_service_may_change_later() -> None:
    # The data of a ControllerRevision can't be changed.
    later: dict[str, Any] = {"spec": {"scaling": {"drainTimeout": "90s"}, "disruption": "Allow"}}
    measured: dict[str, Any] = {"variant": {"accuracy": {"metric": "top1", "value": 0.5}}}
    assert example(**later).to_data() == example().to_data() == example(**measured).to_data()


def test_what_was_stored_before_there_were_caches_comes_back_without_one() -> None:
    assert "responseCache" not in example().to_data()
    assert _stored(example()).response_cache is None


def test_data_of_something_else_are_refused() -> None:
    with pytest.raises(KeyError):
        Snapshot.from_data(
            {"spec": {}}, service="a", namespace="b", revision="c", spec=service_spec()
        )


def test_the_services_own_image_wins_over_the_installations() -> None:
    snapshot = example(spec={"triton": {"image": "example.com/triton:9"}})
    assert snapshot.triton_image == "example.com/triton:9"
    assert snapshot.fetch_image == IMAGES.conch


def test_the_installations_arguments_come_before_the_services() -> None:
    snapshot = example(images=SET, spec={"triton": {"args": ["--log-info=1"]}})
    assert snapshot.triton_args == ("--log-info=0", "--log-info=1")


def test_the_services_environment_wins_over_the_installations() -> None:
    own = {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    snapshot = example(images=SET, spec={"podTemplate": {"env": [own]}})
    assert snapshot.pod_template.env == [{"name": "A", "value": "1"}, own]


def test_another_default_leaves_a_stored_revision_as_it_was() -> None:
    assert _stored(example(images=SET)) == example(images=SET) != example()
