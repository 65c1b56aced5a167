"""The children of a service besides its ReplicaSets."""

from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from conch.api.names import LABEL_SERVING
from conch.provisioning.children import children, revision_children, service_children
from conch.provisioning.config_map import config_pbtxt
from conch.provisioning.pod import fetch_args
from conch.provisioning.replica_set import replica_set
from conch.provisioning.service import url
from conch.provisioning.snapshot import Snapshot
from tests.kit.rendering import OWNER, POOL, example

FILE: dict[str, Any] = {"variant": {"source": {"uri": "file:///srv/models/digits"}}}


def _by_kind(snapshot: Snapshot) -> dict[str, Any]:
    return {m["kind"]: m for m in children(snapshot, owner=OWNER)}


def _config(**variant: Any) -> Any:
    text = config_pbtxt(example(variant=variant))
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_the_cache_of_answers_is_enabled_where_it_is_asked_for() -> None:
    text = config_pbtxt(example(spec={"triton": {"responseCache": "64Mi"}}))
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert config.response_cache.enable
    assert not _config().HasField("response_cache")


def test_a_service_has_these_children() -> None:
    assert [m["kind"] for m in children(example(), owner=OWNER)] == [
        "ControllerRevision",
        "ConfigMap",
        "ServiceAccount",
        "Service",
        "PodDisruptionBudget",
    ]


def test_all_children_are_owned_labelled_and_in_the_services_namespace() -> None:
    for manifest in children(example(), owner=OWNER):
        meta = manifest["metadata"]
        assert meta["namespace"] == "vision"
        assert meta["ownerReferences"][0]["uid"] == OWNER.uid
        assert meta["labels"]["conch.dev/service"] == "digits"
        assert meta["labels"]["app.kubernetes.io/managed-by"] == "conch"


def test_only_what_a_revision_needs_is_labelled_with_it() -> None:
    revision = example().revision
    for manifest in revision_children(example(**FILE), owner=OWNER):
        assert "conch.dev/revision" in manifest["metadata"]["labels"]
    for manifest in service_children(example(), owner=OWNER):
        assert "conch.dev/revision" not in manifest["metadata"]["labels"]
        assert revision not in manifest["metadata"]["name"]


def test_traffic_goes_to_the_serving_pods_of_the_revision() -> None:
    service = _by_kind(example())["Service"]
    pods = replica_set(example(), POOL, replicas=1, gated=False, owner=OWNER)
    labels = pods["spec"]["template"]["metadata"]["labels"]
    selector = service["spec"]["selector"]
    assert selector.items() <= labels.items()
    assert {LABEL_SERVING, "conch.dev/revision"} <= set(selector)
    assert [(p["name"], p["port"]) for p in service["spec"]["ports"]] == [
        ("http", 8000),
        ("grpc", 8001),
    ]
    assert url("digits", "vision") == "http://digits.vision.svc:8000"


def test_the_budget_covers_serving_pods_of_every_revision() -> None:
    budget = _by_kind(example())["PodDisruptionBudget"]["spec"]
    assert budget["maxUnavailable"] == 0
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert budget["selector"]["matchLabels"] == {"conch.dev/service": "digits", LABEL_SERVING: "on"}


def test_a_service_that_allows_disruption_has_no_budget() -> None:
    assert "PodDisruptionBudget" not in _by_kind(example(spec={"disruption": "Allow"}))


def test_the_account_has_no_token() -> None:
    account = _by_kind(example())["ServiceAccount"]
    assert account["automountServiceAccountToken"] is False


def test_the_controller_revision_keeps_the_snapshot() -> None:
    manifest = _by_kind(example())["ControllerRevision"]
    assert manifest["data"] == example().to_data()
    assert manifest["revision"] == 1


def test_a_file_source_becomes_a_local_volume_bound_to_its_claim() -> None:
    found = _by_kind(example(**FILE))
    volume, claim = found["PersistentVolume"], found["PersistentVolumeClaim"]
    assert volume["spec"]["local"] == {"path": "/srv/models/digits"}
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert "volumeName" not in claim["spec"]
    reference = volume["spec"]["claimRef"]
    assert (reference["namespace"], reference["name"]) == ("vision", claim["metadata"]["name"])
    for part in ("storageClassName", "accessModes", "volumeMode"):
        assert volume["spec"][part] == claim["spec"][part]
    pods = replica_set(example(**FILE), POOL, replicas=1, gated=False, owner=OWNER)
    mounted = [
        v["persistentVolumeClaim"]
        for v in pods["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in v
    ]
    assert mounted == [{"claimName": claim["metadata"]["name"], "readOnly": True}]


@pytest.mark.parametrize(
    ("prefixes", "mounted", "below"),
    [
        ((), "/srv/models/digits", "/source"),
        (("/srv/models",), "/srv/models", "/source/digits"),
        (("/srv", "/srv/models/", "/data"), "/srv/models", "/source/digits"),
        (("/srv/models/digits",), "/srv/models/digits", "/source"),
        (("/",), "/srv/models/digits", "/source"),
    ],
)
def test_a_file_source_is_looked_for_below_the_directory_that_is_allowed(
    prefixes: tuple[str, ...], mounted: str, below: str
) -> None:
    snapshot = example(**FILE, file_prefixes=prefixes)
    assert _by_kind(snapshot)["PersistentVolume"]["spec"]["local"] == {"path": mounted}
    assert f"--source-dir={below}" in fetch_args(snapshot)


def test_the_volume_of_a_file_source_is_found_by_labels_since_it_has_no_owner() -> None:
    meta = _by_kind(example(**FILE))["PersistentVolume"]["metadata"]
    assert "ownerReferences" not in meta
    assert "namespace" not in meta
    assert meta["labels"]["conch.dev/namespace"] == "vision"
    assert meta["labels"]["conch.dev/service"] == "digits"


def test_a_service_made_again_gets_another_volume() -> None:
    # A volume that is Released can't be bound a second time.
    again = OWNER.__class__(OWNER.api_version, OWNER.kind, OWNER.name, "another-uid")
    names = {
        m["metadata"]["name"]
        for owner in (OWNER, again)
        for m in revision_children(example(**FILE), owner=owner)
        if m["kind"] == "PersistentVolume"
    }
    assert len(names) == 2


def test_the_configuration_says_what_the_model_says() -> None:
    config = _config(instances=2, maxQueueDelay="1.5ms")
    assert (config.name, config.backend, config.max_batch_size) == ("digits", "python", 16)
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [
        ("image", model_config_pb2.TYPE_FP32, [64])
    ]
    assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [
        ("label", model_config_pb2.TYPE_STRING, [-1])
    ]
    assert config.dynamic_batching.max_queue_delay_microseconds == 1500
    assert [g.count for g in config.instance_group] == [2]


def test_instances_take_what_triton_finds_unless_the_variant_wants_no_gpu() -> None:
    group = model_config_pb2.ModelInstanceGroup
    assert _config().instance_group[0].kind == group.KIND_AUTO
    assert _config(resources={"gpus": 0}).instance_group[0].kind == group.KIND_CPU


@pytest.mark.parametrize(("size", "batching"), [(0, False), (1, False), (2, True)])
def test_batches_are_formed_where_they_can_be(size: int, batching: bool) -> None:
    assert _config(maxBatchSize=size).HasField("dynamic_batching") == batching


@pytest.mark.parametrize(
    "value", ['a "quoted" one', "two\nlines", "ünïcode", 'x" } instance_group {']
)
def test_parameters_arrive_as_written(value: str) -> None:
    config = _config(parameters={"key": value})
    assert {k: p.string_value for k, p in config.parameters.items()} == {"key": value}
    assert len(config.instance_group) == 1


def test_the_configuration_is_the_same_every_time() -> None:
    names = [f"p{n}" for n in range(20)]
    one = example(variant={"parameters": {n: n for n in names}})
    other = example(variant={"parameters": {n: n for n in reversed(names)}})
    assert config_pbtxt(one) == config_pbtxt(other)
