"""The pods of a revision: where they run, what they get, how they start and stop."""

from dataclasses import replace
from typing import Any

import pytest

from conch.api.model import Datatype, Tensor
from conch.api.names import GATE, LABEL_SERVING
from conch.api.pool import GPUPoolSpec
from conch.provisioning.pod import fetch_args, pod_template, triton_args
from conch.provisioning.replica_set import replica_set, replica_set_name
from conch.provisioning.resources import Pool, times
from conch.provisioning.snapshot import Snapshot
from tests.kit.rendering import OWNER, POOL, example

TENSOR = Tensor(name="y", datatype=Datatype.FP32, shape=[1])


def _pod(snapshot: Snapshot | None = None, pool: Pool = POOL, *, gated: bool = False) -> Any:
    return pod_template(snapshot or example(), pool, gated=gated)


def _spec(snapshot: Snapshot | None = None, pool: Pool = POOL, *, gated: bool = False) -> Any:
    return _pod(snapshot, pool, gated=gated)["spec"]


def _triton(snapshot: Snapshot | None = None, pool: Pool = POOL) -> Any:
    (container,) = _spec(snapshot, pool)["containers"]
    return container


def _fetch(snapshot: Snapshot | None = None, pool: Pool = POOL) -> Any:
    (container,) = _spec(snapshot, pool)["initContainers"]
    return container


def _pool(**fields: Any) -> Pool:
    return Pool(POOL.name, GPUPoolSpec.model_validate({**POOL.spec.to_dict(), **fields}))


def test_the_replica_set_selects_its_pods_and_also_those_that_drain() -> None:
    manifest = replica_set(example(), POOL, replicas=3, gated=False, owner=OWNER)
    selected = manifest["spec"]["selector"]["matchLabels"]
    given = manifest["spec"]["template"]["metadata"]["labels"]
    assert manifest["spec"]["replicas"] == 3
    assert selected.items() <= given.items()
    assert LABEL_SERVING in given
    assert LABEL_SERVING not in selected
    assert set(selected.values()) == {"digits", example().revision, "a100"}


def test_the_replica_set_goes_with_its_service() -> None:
    manifest = replica_set(example(), POOL, replicas=1, gated=False, owner=OWNER)
    (reference,) = manifest["metadata"]["ownerReferences"]
    assert reference["uid"] == OWNER.uid
    assert reference["controller"]
    assert reference["blockOwnerDeletion"]


@pytest.mark.parametrize("service", ["a", "s" * 63])
@pytest.mark.parametrize("pool", ["p", "pool.example.com-" + "p" * 236])
def test_names_and_labels_keep_within_their_limits(service: str, pool: str) -> None:
    snapshot = example(service=service)
    manifest = replica_set(snapshot, Pool(pool, POOL.spec), replicas=1, gated=False, owner=OWNER)
    values = manifest["spec"]["template"]["metadata"]["labels"].values()
    assert len(manifest["metadata"]["name"]) <= 57
    assert all(0 < len(v) <= 63 and v[-1].isalnum() for v in values)


def test_names_that_are_cut_stay_apart() -> None:
    names = {replica_set_name("s" * 60, "0123456789", pool) for pool in ("a100", "t4")}
    assert len(names) == 2


def test_the_gate_stands_in_the_template_only_when_asked_for() -> None:
    assert _spec(gated=True)["schedulingGates"] == [{"name": GATE}]
    assert "schedulingGates" not in _spec()


def test_pods_run_on_the_nodes_of_the_pool() -> None:
    pool = _pool(nodeSelector={"zone": "b", "gpu": "T4"})
    affinity = _spec(pool=pool)["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == {
        "matchExpressions": [
            {"key": "gpu", "operator": "In", "values": ["T4"]},
            {"key": "zone", "operator": "In", "values": ["b"]},
        ]
    }


def test_tolerations_come_from_service_and_pool_and_give_up_a_silent_node_soon() -> None:
    own = {"key": "team", "operator": "Exists"}
    found = _spec(example(spec={"podTemplate": {"tolerations": [own]}}))["tolerations"]
    assert own in found
    assert POOL.spec.tolerations[0] in found
    seconds = {t["key"]: t["tolerationSeconds"] for t in found if "tolerationSeconds" in t}
    assert seconds == {
        "node.kubernetes.io/not-ready": 15,
        "node.kubernetes.io/unreachable": 15,
    }


def test_a_users_own_toleration_of_a_silent_node_is_kept() -> None:
    own = {
        "key": "node.kubernetes.io/not-ready",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 600,
    }
    found = _spec(example(spec={"podTemplate": {"tolerations": [own]}}))["tolerations"]
    assert [t for t in found if t["key"] == own["key"]] == [own]


def test_users_labels_are_added_but_never_take_the_place_of_ours() -> None:
    written = {
        "team": "vision",
        "conch.dev/serving": "off",
        "conch.dev/else": "x",
        "app.kubernetes.io/managed-by": "helm",
    }
    labels = _pod(example(spec={"podTemplate": {"labels": written}}))["metadata"]["labels"]
    assert labels["team"] == "vision"
    assert labels[LABEL_SERVING] == "on"
    assert labels["app.kubernetes.io/managed-by"] == "conch"
    assert "conch.dev/else" not in labels


def test_prometheus_finds_the_pods_whatever_users_annotate() -> None:
    written = {"prometheus.io/scrape": "false", "note": "mine"}
    found = _pod(example(spec={"podTemplate": {"annotations": written}}))["metadata"]["annotations"]
    assert found == {
        "note": "mine",
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8002",
        "prometheus.io/path": "/metrics",
    }


def test_a_replica_gets_its_gpus_and_the_pools_share_for_each() -> None:
    resources = _triton(example(variant={"resources": {"gpus": 3}}))["resources"]
    assert resources["limits"] == {"cpu": "1500m", "memory": "3Gi", "nvidia.com/gpu": "3"}
    assert resources["requests"] == resources["limits"]


def test_a_variants_own_needs_win_over_the_pools_share() -> None:
    wanted = {"resources": {"gpus": 1, "memory": "3Gi"}}
    pool = _pool(resourceName="nvidia.com/mig-1g.10gb")
    resources = _triton(example(variant=wanted), pool)["resources"]
    assert resources["limits"] == {
        "cpu": "500m",
        "memory": "3Gi",
        "nvidia.com/mig-1g.10gb": "1",
    }


def test_the_fetch_asks_for_the_same_share_without_gpus() -> None:
    # Equal requests and limits everywhere: the pod is of the class Guaranteed.
    assert _fetch()["resources"] == {
        "limits": {"cpu": "500m", "memory": "1Gi"},
        "requests": {"cpu": "500m", "memory": "1Gi"},
    }


def test_without_gpus_and_needs_nothing_is_asked_for() -> None:
    snapshot = example(variant={"resources": {"gpus": 0}})
    assert _triton(snapshot)["resources"] == {}
    assert _fetch(snapshot)["resources"] == {}


@pytest.mark.parametrize(
    ("quantity", "count", "wanted"),
    [
        ("500m", 3, "1500m"),
        ("0.5", 2, "1"),
        ("1.25", 3, "3.75"),
        ("2Gi", 4, "8Gi"),
        ("1e3", 2, "2000"),
        ("10", 2, "20"),
        ("1.5Gi", 1, "1.5Gi"),
        ("2E", 2, "4E"),
    ],
)
def test_quantities_are_multiplied_exactly(quantity: str, count: int, wanted: str) -> None:
    assert times(quantity, count) == wanted


@pytest.mark.parametrize(
    ("drain", "exit_seconds", "grace"), [("30s", 30, 40), ("1500ms", 2, 12), ("0s", 0, 10)]
)
def test_requests_in_flight_finish_within_the_grace_period(
    drain: str, exit_seconds: int, grace: int
) -> None:
    snapshot = example(spec={"scaling": {"drainTimeout": drain}})
    before = _triton(snapshot)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert f"--exit-timeout-secs={exit_seconds}" in triton_args(snapshot)
    assert _spec(snapshot)["terminationGracePeriodSeconds"] == grace
    assert grace > before + exit_seconds


def test_ready_means_that_the_model_answers_and_alive_that_the_server_does() -> None:
    triton = _triton()
    assert triton["readinessProbe"]["httpGet"]["path"] == "/v2/models/digits/ready"
    assert triton["startupProbe"]["httpGet"]["path"] == "/v2/models/digits/ready"
    assert triton["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"


def test_triton_loads_one_model_and_takes_the_services_arguments_last() -> None:
    args = triton_args(example(spec={"triton": {"args": ["--log-verbose=1"]}}))
    assert "--load-model=digits" in args
    assert "--exit-on-error=true" in args
    assert args[-2] == "--log-verbose=1"


def test_triton_says_whose_it_is_whatever_the_services_arguments_say() -> None:
    args = triton_args(example(spec={"triton": {"args": ["--id=other/service"]}}))
    assert args[-1] == "--id=vision/digits"


def test_a_cache_of_answers_gets_its_memory_on_top_of_the_models() -> None:
    cached = example(
        spec={"triton": {"responseCache": "64Mi"}}, variant={"resources": {"memory": "2Gi"}}
    )
    assert "--cache-config=local,size=67108864" in triton_args(cached)
    asked = _triton(cached)["resources"]
    assert asked["requests"]["memory"] == asked["limits"]["memory"] == str((2048 + 64) << 20)
    assert _fetch(cached)["resources"]["limits"]["memory"] == "2Gi"


def test_a_cache_of_answers_is_a_part_of_what_comes_with_a_gpu() -> None:
    cached = example(spec={"triton": {"responseCache": "64Mi"}})
    assert _triton(cached)["resources"] == _triton()["resources"]
    assert not any(a.startswith("--cache-config") for a in triton_args(example()))


def test_pods_keep_apart_where_some_stand_by_for_others() -> None:
    spread = _spec(example(spec={"scaling": {"maxReplicas": 2, "standby": 1}}))
    assert "topologySpreadConstraints" not in _spec()
    constraints = spread["topologySpreadConstraints"]
    assert [c["topologyKey"] for c in constraints] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    for constraint in constraints:
        assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
        assert constraint["labelSelector"]["matchLabels"] == {
            "conch.dev/service": "digits",
            "conch.dev/serving": "on",
        }


@pytest.mark.parametrize(
    ("backend", "outputs", "wanted"),
    [("python", [TENSOR], True), ("python", [], False), ("onnxruntime", [TENSOR], False)],
)
def test_triton_asks_a_python_model_nothing_that_its_configuration_says(
    backend: str, outputs: list[Tensor], wanted: bool
) -> None:
    snapshot = replace(example(variant={"backend": backend}), outputs=tuple(outputs))
    assert ("--disable-auto-complete-config" in triton_args(snapshot)) is wanted


def _is_restricted(container: dict[str, Any]) -> bool:
    context = container["securityContext"]
    return (
        context["allowPrivilegeEscalation"] is False
        and context["readOnlyRootFilesystem"] is True
        and context["capabilities"] == {"drop": ["ALL"]}
    )


def test_pods_are_restricted() -> None:
    assert _is_restricted(_triton())
    assert _is_restricted(_fetch())
    security = _spec()["securityContext"]
    assert security["runAsNonRoot"]
    assert security["runAsUser"] == 65532
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert _spec()["automountServiceAccountToken"] is False
    assert _spec()["enableServiceLinks"] is False


@pytest.mark.parametrize(
    "source",
    [
        {"uri": "pvc://models/digits"},
        {"uri": "file:///srv/models/digits"},
        {"uri": "https://example.com/digits.tgz", "secretRef": {"name": "login"}},
        {"configMap": {"name": "digits"}},
        {"uri": "s3://m/digits", "secretRef": {"name": "login"}, "tokenAudience": "sts"},
    ],
)
def test_every_mount_has_its_volume_and_every_volume_is_mounted(source: dict[str, Any]) -> None:
    spec = _spec(example(variant={"source": source}))
    names = [v["name"] for v in spec["volumes"]]
    mounted = {
        m["name"] for c in (*spec["containers"], *spec["initContainers"]) for m in c["volumeMounts"]
    }
    assert len(set(names)) == len(names)
    assert mounted == set(names)


def test_users_volumes_and_environment_are_added() -> None:
    template = {
        "env": [
            {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
            {"name": "HOME", "value": "/h"},
        ],
        "volumes": [{"name": "h", "emptyDir": {}}],
        "volumeMounts": [{"name": "h", "mountPath": "/h"}],
    }
    snapshot = example(spec={"podTemplate": template})
    assert {"name": "h", "emptyDir": {}} in _spec(snapshot)["volumes"]
    assert {"name": "h", "mountPath": "/h"} in _triton(snapshot)["volumeMounts"]
    for container in (_triton(snapshot), _fetch(snapshot)):
        values = {e["name"]: e["value"] for e in container["env"]}
        assert values == {
            "HOME": "/h",
            "HTTPS_PROXY": "http://proxy:3128",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        assert len(container["env"]) == len(values)


def test_what_users_leave_out_does_not_stand_in_the_pod() -> None:
    optional = {"imagePullSecrets", "nodeSelector", "runtimeClassName", "priorityClassName"}
    assert not optional & set(_spec())


def test_what_users_name_stands_in_the_pod() -> None:
    template = {
        "imagePullSecrets": [{"name": "login"}],
        "nodeSelector": {"disk": "ssd"},
        "runtimeClassName": "nvidia",
        "priorityClassName": "high",
        "serviceAccountName": "vision",
    }
    spec = _spec(example(spec={"podTemplate": template}))
    assert {k: spec[k] for k in template} == template


def test_pods_have_an_account_of_their_own() -> None:
    assert _spec()["serviceAccountName"] == "conch-digits"


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        (
            {"uri": "pvc://models/digits/fp32", "sha256": "0" * 64},
            {"--source-dir=/source/digits/fp32", f"--sha256={'0' * 64}"},
        ),
        ({"uri": "pvc://models"}, {"--source-dir=/source", "--uri=pvc://models"}),
        ({"uri": "file:///srv/digits"}, {"--source-dir=/source", "--uri=file:///srv/digits"}),
        ({"configMap": {"name": "digits"}}, {"--source-dir=/source", "--uri=configmap://digits"}),
        (
            {"uri": "https://example.com/m.onnx", "secretRef": {"name": "login"}},
            {"--credentials=/credentials", "--uri=https://example.com/m.onnx"},
        ),
        (
            {"uri": "s3://models/digits", "secretRef": {"name": "login"}},
            {"--credentials=/credentials", "--secret-name=login", "--uri=s3://models/digits"},
        ),
        ({"uri": "gs://models/digits", "tokenAudience": "sts"}, {"--token=/identity/token"}),
    ],
)
def test_the_fetch_is_told_where_the_files_are(source: dict[str, Any], wanted: set[str]) -> None:
    args = fetch_args(example(variant={"source": source}))
    assert wanted <= set(args)
    assert any(a.startswith("--source-dir") for a in args) == ("--source-dir" in str(wanted))


def test_an_older_fetch_of_http_sources_is_told_nothing_new() -> None:
    source = {"uri": "https://example.com/m.onnx", "secretRef": {"name": "login"}}
    args = fetch_args(example(variant={"source": source}, endpoints={"https": "http://mirror"}))
    assert {a.partition("=")[0] for a in args} == {
        "--uri",
        "--model",
        "--repository",
        "--config",
        "--file-name",
        "--credentials",
    }


def test_secrets_and_tokens_are_for_the_fetch_alone() -> None:
    source = {
        "uri": "s3://models/digits",
        "secretRef": {"name": "login"},
        "tokenAudience": "sts.amazonaws.com",
    }
    snapshot = example(variant={"source": source})
    mounted = {m["mountPath"]: m for m in _fetch(snapshot)["volumeMounts"]}
    assert mounted["/credentials"]["readOnly"]
    assert mounted["/identity"]["readOnly"]
    assert not {"/credentials", "/identity"} & {
        m["mountPath"] for m in _triton(snapshot)["volumeMounts"]
    }
    token = next(v for v in _spec(snapshot)["volumes"] if v["name"] == "conch-identity")
    assert token["projected"]["sources"] == [
        {
            "serviceAccountToken": {
                "audience": "sts.amazonaws.com",
                "expirationSeconds": 3600,
                "path": "token",
            }
        }
    ]


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("s3://models/digits", "http://minio:9000"),
        ("oci://registry.lan:5000/m:1", "http://registry.lan:5000"),
        ("oci://ghcr.io/org/m:1", None),
        ("gs://models/digits", None),
        ("https://example.com/m.onnx", None),
    ],
)
def test_the_installation_says_where_protocols_are_spoken(uri: str, wanted: str | None) -> None:
    endpoints = {"s3": "http://minio:9000", "oci/registry.lan:5000": "http://registry.lan:5000"}
    snapshot = example(variant={"source": {"uri": uri}}, endpoints=endpoints)
    found = [a for a in fetch_args(snapshot) if a.startswith("--endpoint")]
    assert found == ([f"--endpoint={wanted}"] if wanted else [])
    assert snapshot.revision == example(variant={"source": {"uri": uri}}).revision
    assert "endpoint" not in snapshot.to_data()


@pytest.mark.parametrize(
    ("backend", "name"), [("python", "model.py"), ("onnxruntime", "model.onnx"), ("mine", None)]
)
def test_a_single_file_gets_the_name_that_its_backend_looks_for(
    backend: str, name: str | None
) -> None:
    args = fetch_args(example(variant={"backend": backend}))
    assert [a for a in args if "file-name" in a] == ([f"--file-name={name}"] if name else [])


HTTPS = {"source": {"uri": "https://models.example/m.tar"}}


def test_the_cache_is_written_by_the_fetch_and_only_read_by_triton() -> None:
    snapshot = replace(example(variant=HTTPS), cache=True)
    (volume,) = (v for v in _spec(snapshot)["volumes"] if v["name"] == "conch-cache")
    assert volume["persistentVolumeClaim"] == {"claimName": "conch-cache"}
    found = {
        c["name"]: next(m for m in c["volumeMounts"] if m["name"] == "conch-cache")
        for c in (_fetch(snapshot), _triton(snapshot))
    }
    assert {name: m.get("readOnly", False) for name, m in found.items()} == {
        "fetch": False,
        "triton": True,
    }
    assert {m["mountPath"] for m in found.values()} == {"/cache"}


def test_an_older_fetch_does_not_mind_the_cache() -> None:
    plain = example(variant=HTTPS)
    snapshot = replace(plain, cache=True)
    assert fetch_args(snapshot) == fetch_args(plain)
    env = {e["name"]: e for e in _fetch(snapshot)["env"]}
    assert env["CONCH_CACHE"]["value"] == "/cache"
    assert env["CONCH_POD_UID"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.uid"
    assert env["CONCH_POD_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    names = {e["name"] for c in (_triton(snapshot), _fetch(plain)) for e in c["env"]}
    assert not {n for n in names if n.startswith("CONCH_")}


def test_users_may_turn_the_cache_off_for_a_service() -> None:
    off = {"name": "CONCH_CACHE", "value": ""}
    snapshot = replace(example(variant=HTTPS, spec={"podTemplate": {"env": [off]}}), cache=True)
    assert [e for e in _fetch(snapshot)["env"] if e["name"] == "CONCH_CACHE"] == [off]


def test_whether_there_is_a_cache_is_no_part_of_a_revision() -> None:
    plain = example(variant=HTTPS)
    assert replace(plain, cache=True).to_data() == plain.to_data()
