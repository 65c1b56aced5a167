"""The kinds on a real API server: what it accepts, refuses in words, and shows."""

import copy
import re
from typing import Any

import pytest

from conch.api.crd import KINDS
from tests.kit.client import ApiError
from tests.kit.control_plane import CRDS, Cluster, condition

MODEL: dict[str, Any] = {
    "apiVersion": "conch.dev/v1alpha1",
    "kind": "Model",
    "metadata": {"name": "digits"},
    "spec": {
        "task": "image-classification",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [64]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [10]}],
        "variants": [
            {
                "name": "fp32",
                "source": {"uri": "pvc://models/digits-fp32", "sha256": "9f2c" * 16},
                "backend": "python",
                "maxBatchSize": 16,
                "accuracy": {"metric": "top1", "value": 0.972, "dataset": "digits-test"},
                "resources": {"gpus": 1, "memory": "2Gi"},
                "profile": {"NVIDIA-A100": {"fixedMs": 1.1, "perItemMs": 0.4}},
            }
        ],
    },
}
SERVICE: dict[str, Any] = {
    "apiVersion": "conch.dev/v1alpha1",
    "kind": "ModelService",
    "metadata": {"name": "digits"},
    "spec": {
        "model": {"name": "digits"},
        "objective": {"p99": "50ms", "minAccuracy": 0.95},
        "scaling": {"minReplicas": 1, "maxReplicas": 8},
        "priority": 100,
        "placement": {"accelerators": ["NVIDIA-A100", "Tesla-T4"]},
        "podTemplate": {},
    },
}
TENANT: dict[str, Any] = {
    "apiVersion": "conch.dev/v1alpha1",
    "kind": "Tenant",
    "metadata": {"name": "vision"},
    "spec": {"namespaces": ["vision"], "requests": {"requestsPerSecond": 50.5}},
}
POOL: dict[str, Any] = {
    "apiVersion": "conch.dev/v1alpha1",
    "kind": "GPUPool",
    "metadata": {"name": "a100"},
    "spec": {
        "accelerator": "NVIDIA-A100",
        "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-A100"},
        "perGPU": {"cpu": "400m", "memory": "1Gi"},
    },
}
CLUSTER_MODEL = {**MODEL, "kind": "ClusterModel"}


def changed(manifest: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the manifest with the field at ``spec.PATH`` set; None removes it."""
    result = copy.deepcopy(manifest)
    *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    node = result["spec"]
    for key in parents:
        node = node.setdefault(key, {}) if isinstance(node, dict) else node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return result


def peak(**fields: Any) -> dict[str, Any]:
    """Return a service with a schedule, some fields of which are others; None leaves one out."""
    schedule = {"start": "0 8 * * 1-5", "end": "10h", "timeZone": "Europe/Berlin", "minReplicas": 4}
    wished = {k: v for k, v in {**schedule, **fields}.items() if v is not None}
    return changed(SERVICE, "scaling.schedules", [wished])


def offered(**fields: Any) -> dict[str, Any]:
    """Return a service with these fields of its endpoint."""
    return changed(SERVICE, "endpoint", fields)


OFFERED = offered(
    hosts=["digits.example.com", "digits", "a" * 63 + ".x"],
    access="Open",
    tenants=["*", "research", "team.a"],
    timeout="10ms",
    maxBody="1.5Gi",
    maxWaiting=0,
    maxWait="0s",
    replay=True,
    limits={"requestsPerSecond": 0.5, "concurrentRequests": 8},
    slowStart="1h",
)
CACHED = changed(
    changed(SERVICE, "triton.responseCache", "64Mi"), "scaling", {"maxReplicas": 3, "standby": 2}
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.kind)
def test_the_api_server_takes_the_schemas_as_they_are(cluster: Cluster, kind: Any) -> None:
    crd = cluster.client.get(f"{CRDS}/{kind.crd_name}")
    assert condition(crd, "Established")["status"] == "True"
    # Set only where the schema is not structural; then nothing would be pruned.
    assert condition(crd, "NonStructuralSchema").get("status", "False") == "False"


@pytest.mark.parametrize(
    "manifest",
    [MODEL, SERVICE, POOL, CLUSTER_MODEL, TENANT, peak(), OFFERED, CACHED],
    ids=lambda m: m["kind"],
)
@pytest.mark.parametrize("how", [["--server-side"], []], ids=["server-side", "client-side"])
def test_examples_apply(
    cluster: Cluster, namespace: str, manifest: dict[str, Any], how: list[str]
) -> None:
    apply = ["apply", "-n", namespace, *how, "-f", "-"]
    cluster.kubectl.ok(*apply, given=manifest)
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    # Applying again changes nothing, so GitOps tools see no drift.
    before = cluster.kubectl.ok("get", kind, name, "-n", namespace, "-o", "yaml")
    cluster.kubectl.ok(*apply, given=manifest)
    assert cluster.kubectl.ok("get", kind, name, "-n", namespace, "-o", "yaml") == before


def test_a_model_is_all_that_a_service_must_name(cluster: Cluster, namespace: str) -> None:
    path = f"/apis/conch.dev/v1alpha1/namespaces/{namespace}/modelservices"
    stored = cluster.client.create(path, {**SERVICE, "spec": {"model": {"name": "digits"}}})
    spec = stored["spec"]
    assert spec["scaling"]["minReplicas"] == 1
    assert "scaleDownWindow" not in spec["scaling"]
    assert spec["model"]["kind"] == "Model"
    assert "maxReplicas" not in spec["scaling"]
    assert "replicas" not in spec
    assert "responseCache" not in spec.get("triton", {})
    assert spec["endpoint"]["access"] == "Keys"
    assert (spec["endpoint"]["maxBody"], spec["endpoint"]["maxWait"]) == ("64Mi", "120s")


REFUSED = [
    # what is wrong, the manifest, and what the user reads
    ("unknown field", changed(SERVICE, "scaling.maxReplica", 3), 'unknown field "spec.scaling.maxReplica"'),
    ("negative replicas", changed(SERVICE, "replicas", -1), "spec.replicas in body should be greater than or equal to 0"),
    ("negative minimum", changed(SERVICE, "scaling.minReplicas", -1), "minReplicas in body should be greater than or equal to 0"),
    ("min over max", changed(SERVICE, "scaling.minReplicas", 9), "minReplicas may not exceed maxReplicas"),
    ("maximum of zero", changed(SERVICE, "scaling.maxReplicas", 0), "should be greater than or equal to 1"),
    ("bad duration", changed(SERVICE, "objective.p99", "50"), "must be a duration such as 50ms, 30s or 5m"),
    ("empty duration", changed(SERVICE, "scaling.window", ""), "must be a duration such as 50ms, 30s or 5m"),
    ("a peak over the maximum", peak(minReplicas=9), "minReplicas of a schedule may not exceed maxReplicas (unset: minReplicas): raise maxReplicas"),
    ("cron of four fields", peak(start="0 8 * *"), "must be cron with five fields (minute, hour, day of month, month, day of week), such as 0 8 * * 1-5"),
    ("cron out of range", peak(start="60 8 * * *"), "must be cron with five fields"),
    ("a peak without an end", peak(end=None), "end: Required value"),
    ("a peak of no time", peak(end="0s"), "must be a duration of more than zero, such as 8h, or cron with five fields"),
    ("a peak that ends as it starts", peak(end="0 8 * * 1-5"), "start and end are the same"),
    ("no time zone", peak(timeZone="Berlin time"), "must be the IANA name of a time zone, such as Europe/Berlin or UTC"),
    ("window of zero", changed(SERVICE, "scaling.window", "0s"), "must be a duration between 1s and 24h"),
    ("window of zero on the way down", changed(SERVICE, "scaling.scaleDownWindow", "0s"), "must be a duration between 1s and 24h"),
    ("window of days", changed(SERVICE, "scaling.scaleDownWindow", "48h"), "must be a duration between 1s and 24h"),
    ("window beyond all numbers", changed(SERVICE, "scaling.window", "99999999999999h"), "must be a duration between 1s and 24h"),
    ("cool-down of days", changed(SERVICE, "scaling.scaleUpCooldown", "48h"), "must be a duration of at most 24h"),
    ("unknown aggressiveness", changed(SERVICE, "scaling.aggressiveness", "Reckless"), 'supported values: "Economical", "Balanced", "Cautious"'),
    ("target over one", changed(SERVICE, "scaling.targetUtilization", 1.5), "should be less than or equal to 1"),
    ("target of zero", changed(SERVICE, "scaling.targetUtilization", 0), "should be greater than 0"),
    ("no model", changed(SERVICE, "model", None), "spec.model: Required value"),
    ("empty model name", changed(SERVICE, "model.name", ""), "spec.model.name in body should be at least 1 chars long"),
    ("model name in capitals", changed(SERVICE, "model.name", "Digits"), "lower-case letters, digits, '-' and '.'"),
    ("unknown kind of model", changed(SERVICE, "model.kind", "Modell"), 'supported values: "Model", "ClusterModel"'),
    ("text for a number", changed(SERVICE, "replicas", "two"), "must be of type integer"),
    ("empty accelerator", changed(SERVICE, "placement.accelerators", [""]), "should be at least 1 chars long"),
    ("bad quantity", changed(MODEL, "variants.0.resources.memory", "2 GB"), "must be a quantity of zero or more, such as 500m, 2 or 4Gi"),
    ("negative quantity", changed(MODEL, "variants.0.resources.cpu", "-1"), "must be a quantity of zero or more"),
    ("endless quantity", changed(MODEL, "variants.0.resources.cpu", "1e2147483648"), "must be a quantity of zero or more"),
    ("two sources", changed(MODEL, "variants.0.source.configMap", {"name": "c"}), "give exactly one source: either uri or configMap"),
    ("no source", changed(MODEL, "variants.0.source", {}), "give exactly one source: either uri or configMap"),
    ("source of an unknown kind", changed(MODEL, "variants.0.source.uri", "ftp://host/file"), "must be a URI such as pvc://claim/path"),
    ("empty source", changed(MODEL, "variants.0.source.uri", ""), "should be at least 1 chars long"),
    ("bad checksum", changed(MODEL, "variants.0.source.sha256", "9f2c"), "must be 64 hexadecimal digits"),
    ("empty variant name", changed(MODEL, "variants.0.name", ""), "variants[0].name in body should be at least 1 chars long"),
    ("no variant", changed(MODEL, "variants", []), "spec.variants in body should have at least 1 items"),
    ("two variants of one name", changed(MODEL, "variants", MODEL["spec"]["variants"] * 2), "give each variant a name of its own"),
    ("unknown datatype", changed(MODEL, "inputs.0.datatype", "float32"), 'supported values: "BOOL"'),
    ("unknown field deep inside", changed(MODEL, "variants.0.maxBatch", 3), 'unknown field "spec.variants[0].maxBatch"'),
    ("pool without labels", changed(POOL, "nodeSelector", {}), "name at least one label that the pool's nodes carry"),
    ("pool with a bad share", changed(POOL, "perGPU.cpu", "much"), "must be a quantity of zero or more"),
    ("speed of zero", changed(POOL, "relativeSpeed", 0), "should be greater than 0"),
    ("DRA without a class", changed(POOL, "sharing.mode", "DRA"), "name a deviceClass where mode is DRA, and only there"),
    ("class without DRA", changed(POOL, "sharing", {"mode": "MIG", "deviceClass": "x"}), "name a deviceClass where mode is DRA, and only there"),
    ("driver without DRA", changed(POOL, "sharing", {"driver": "x"}), "driver is for mode DRA only"),
    ("parts of whole GPUs", changed(POOL, "sharing.devicesPerGPU", 7), "devicesPerGPU is for GPUs that are divided"),
    ("host with a scheme", offered(hosts=["https://digits.example.com"]), "must be a host name in lower-case letters, such as digits.example.com"),
    ("host in capitals", offered(hosts=["Digits.example.com"]), "must be a host name in lower-case letters"),
    ("host with a port", offered(hosts=["digits.example.com:443"]), "without scheme, port, path or wildcard"),
    ("any host", offered(hosts=["*.example.com"]), "must be a host name"),
    ("an address for a host", offered(hosts=["10.0.0.1"]), "must be a host name"),
    ("a part of a host that is too long", offered(hosts=["a" * 64 + ".example.com"]), "must be a host name"),
    ("empty host", offered(hosts=[""]), "should be at least 1 chars long"),
    ("a host twice", offered(hosts=["a.example", "b.example", "a.example"]), 'spec.endpoint.hosts[2]: Duplicate value: "a.example"'),
    ("too many hosts", offered(hosts=[f"h{n}.example" for n in range(17)]), "must have at most 16 items"),
    ("unknown access", offered(access="Everyone"), 'supported values: "Keys", "Open"'),
    ("no tenant's name", offered(tenants=["Vision"]), "must be the name of a Tenant or a namespace, such as vision, or * for all that have a key"),
    ("a pattern for tenants", offered(tenants=["vision-*"]), "must be the name of a Tenant or a namespace"),
    ("a tenant twice", offered(tenants=["*", "*"]), 'Duplicate value: "*"'),
    ("time-out of zero", offered(timeout="0s"), "must be a duration between 10ms and 24h"),
    ("time-out without a unit", offered(timeout="60"), "must be a duration such as 50ms, 30s or 5m"),
    ("body of nothing", offered(maxBody="0"), "must be a number of bytes, such as 512Ki, 64Mi or 2Gi"),
    ("body in words", offered(maxBody="64 MB"), "must be a number of bytes"),
    ("fewer than none waiting", offered(maxWaiting=-1), "should be greater than or equal to 0"),
    ("wait of hours", offered(maxWait="2h"), "must be a duration of at most 1h"),
    ("slow start of hours", offered(slowStart="2h"), "must be a duration of at most 1h"),
    ("no requests at all", offered(limits={"requestsPerSecond": 0}), "should be greater than 0"),
    ("no request at a time", offered(limits={"concurrentRequests": 0}), "should be greater than or equal to 1"),
    ("unknown limit", offered(limits={"perMinute": 5}), 'unknown field "spec.endpoint.limits.perMinute"'),
    ("no requests of a tenant", changed(TENANT, "requests.requestsPerSecond", 0), "should be greater than 0"),
    ("nothing but standby", changed(SERVICE, "scaling", {"maxReplicas": 2, "standby": 2}), "standby may not reach maxReplicas (unset: minReplicas), since one replica at least works"),
    ("standby of one replica", changed(SERVICE, "scaling", {"standby": 1}), "standby may not reach maxReplicas"),
    ("standby below zero", changed(SERVICE, "scaling.standby", -1), "should be greater than or equal to 0"),
    ("cache without a size", changed(SERVICE, "triton.responseCache", "0"), "must be a number of bytes, 1M at least, such as 64Mi or 2Gi"),
    ("cache of a few bytes", changed(SERVICE, "triton.responseCache", "512Ki"), "must be a number of bytes, 1M at least"),
    ("unknown sharing", changed(POOL, "sharing.mode", "MPS"), 'supported values: "Whole"'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("manifest", "words"), [pytest.param(m, w, id=name) for name, m, w in REFUSED]
)
def test_refused_at_apply_in_words(
    cluster: Cluster, namespace: str, manifest: dict[str, Any], words: str
) -> None:
    complaint = cluster.kubectl.refused("apply", "-n", namespace, "-f", "-", given=manifest)
    assert words.lower() in complaint.lower()


STATUS = {
    "replicas": 2,
    "readyReplicas": 1,
    "desiredReplicas": 2,
    "variant": "fp32",
    "selector": "conch.dev/service=digits",
    "url": "http://digits.vision",
    "where": "a100 x 1, t4 x 1",
    "pools": [
        {"pool": "a100", "accelerator": "NVIDIA-A100", "replicas": 1, "ready": 1},
        {"pool": "t4", "accelerator": "Tesla-T4", "replicas": 1, "ready": 0},
    ],
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Serving",
            "message": "1 of 2 replicas answer",
            "lastTransitionTime": "2024-01-01T00:00:00Z",
        }
    ],
}


@pytest.fixture
def service(cluster: Cluster, namespace: str) -> str:
    """The path of a service with a status."""
    path = f"/apis/conch.dev/v1alpha1/namespaces/{namespace}/modelservices"
    cluster.client.create(path, SERVICE)
    cluster.client.merge(f"{path}/digits/status", {"status": STATUS})
    return f"{path}/digits"


def table(text: str) -> dict[str, str]:
    """The first row of kubectl's table, by column."""
    head, row = text.splitlines()[:2]
    # Cells stand below their headings; a cell may be empty, and a heading is one word.
    columns = [(m.start(), m[0]) for m in re.finditer(r"\S+", head)]
    ends = [start for start, _ in columns[1:]] + [None]
    return {name: row[start:end].strip() for (start, name), end in zip(columns, ends, strict=True)}


@pytest.mark.usefixtures("service")
def test_kubectl_get_shows_what_matters(cluster: Cluster, namespace: str) -> None:
    row = table(cluster.kubectl.ok("get", "msvc", "-n", namespace))
    del row["AGE"]
    assert row == {
        "NAME": "digits",
        "MODEL": "digits",
        "VARIANT": "fp32",
        "DESIRED": "2",
        "REPLICAS": "2",
        "AVAILABLE": "1",
        "READY": "True",
        "REASON": "Serving",
    }
    wide = table(cluster.kubectl.ok("get", "msvc", "-n", namespace, "-o", "wide"))
    assert wide["WHERE"] == "a100 x 1, t4 x 1"
    assert wide["MESSAGE"] == "1 of 2 replicas answer"


@pytest.mark.usefixtures("service")
def test_one_word_lists_all_kinds(cluster: Cluster, namespace: str) -> None:
    cluster.client.create(f"/apis/conch.dev/v1alpha1/namespaces/{namespace}/models", MODEL)
    cluster.kubectl.ok("apply", "-f", "-", given=POOL)
    listed = cluster.kubectl.ok("get", "conch", "-n", namespace, "-o", "name").split()
    assert {
        "modelservice.conch.dev/digits",
        "model.conch.dev/digits",
        "gpupool.conch.dev/a100",
    } <= set(listed)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.kind)
def test_short_names(cluster: Cluster, namespace: str, kind: Any) -> None:
    for short in kind.short:
        cluster.kubectl.ok("get", short, "-n", namespace)


def test_scale(cluster: Cluster, namespace: str, service: str) -> None:
    cluster.kubectl.ok("scale", "msvc/digits", "-n", namespace, "--replicas=3")
    assert cluster.client.get(service)["spec"]["replicas"] == 3
    scale = cluster.client.get(f"{service}/scale")
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 2, "selector": "conch.dev/service=digits"}


def test_scale_is_refused_below_zero(cluster: Cluster, namespace: str, service: str) -> None:
    with pytest.raises(ApiError, match="greater than or equal to 0"):
        cluster.client.merge(f"{service}/scale", {"spec": {"replicas": -1}})


def test_a_user_cannot_write_facts_with_wishes(cluster: Cluster, service: str) -> None:
    cluster.client.merge(service, {"status": {"replicas": 9}})
    assert cluster.client.get(service)["status"]["replicas"] == 2


def test_every_field_is_explained(cluster: Cluster) -> None:
    text = cluster.kubectl.ok("explain", "modelservice.spec.scaling")
    assert "Bounds and pace of scaling" in text


def test_kubectl_get_shows_models_and_pools(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl.ok("apply", "-n", namespace, "-f", "-", given=[MODEL, POOL])
    row = table(cluster.kubectl.ok("get", "mdl", "-n", namespace))
    assert (row["TASK"], row["VARIANT"]) == ("image-classification", "fp32")
    assert (row["BACKEND"], row["ACCURACY"]) == ("python", "0.972")
    row = table(cluster.kubectl.ok("get", "gpool", "a100"))
    assert row["ACCELERATOR"] == "NVIDIA-A100"
