"""The Helm chart, as helm renders it."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from conch import __version__
from conch.api.crd import KINDS
from conch.cli.main import CONCH_IMAGE, TRITON_IMAGE, app
from conch.clients.resources import CHILDREN, OF_DRA, RESOURCES
from conch.handlers.watches import WATCHED
from conch.metrics import rules as recording
from conch.provisioning.coexistence import PRIORITY_CLASSES, Coexistence, coexistence
from tests.kit.chart import CHART, NAMESPACE, ROOT, Object, Objects, call, refused, rendered


def pod_spec(objects: Objects) -> Object:
    spec = objects["Deployment", "conch"]["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def arguments(objects: Objects) -> list[str]:
    (container,) = pod_spec(objects)["containers"]
    return [*container["command"], *container["args"]]


EVERYTHING = (
    "podMonitor.enabled=true",
    "podMonitor.labels.release=prometheus",
    "recordingRules.prometheusRule=true",
    "recordingRules.configMap=true",
    "recordingRules.labels.release=prometheus",
    "recordingRules.interval=15s",
    "alertRules.prometheusRule=true",
    "alertRules.configMap=true",
    "alertRules.labels.release=prometheus",
    "dashboards.enabled=true",
    "dashboards.labels.release=prometheus",
    "dashboards.annotations.grafana_folder=Conch",
    "networkPolicy.enabled=true",
    "sources.filePrefixes={/srv/models,/srv/more}",
    "sources.endpoints.s3=https://minio.lan:9000",
    "sources.endpoints.oci.docker\\.io=https://mirror.lan/dockerhub",
    "cache.enabled=true",
    "cache.nodeSelector.gpu=yes",
    "cache.priorityClassName=system-node-critical",
    "prometheus.url=http://prometheus.monitoring:9090",
    "imagePullSecrets[0].name=registry",
    "podLabels.team=platform",
    "podAnnotations.note=x",
    "nodeSelector.zone=a",
    "tolerations[0].key=nvidia.com/gpu",
    "tolerations[0].operator=Exists",
    "priorityClassName=system-cluster-critical",
    "operator.extraArgs={--log-level=DEBUG}",
    "operator.nodeSigns.Mine=True",
    "operator.nodeSigns.KernelDeadlock=ignore",
    "operator.env[0].name=HTTPS_PROXY",
    "operator.env[0].value=http://proxy:3128",
    "affinity.nodeAffinity.x=y",
    "replicas=2",
    "triton.args={--log-verbose=1}",
    "triton.env.LD_PRELOAD=/opt/lib.so",
    "topologySpreadConstraints[0].maxSkew=1",
    "serviceAccount.annotations.role=r",
    "dra.enabled=true",
    "coexistence.kueue.enabled=true",
    "coexistence.kai.enabled=true",
    "coexistence.kai.queue=shared",
    "coexistence.priorityClasses.enabled=true",
    "coexistence.karpenter.enabled=true",
    "coexistence.karpenter.duration=1h30m",
    "coexistence.clusterAutoscaler.enabled=true",
    "coexistence.descheduler.enabled=true",
    "frontDoor.tls.secretName=front-door-tls",
    "frontDoor.domain=models.example.com",
    "frontDoor.keys.everywhere=true",
    "frontDoor.jwt.enabled=true",
    "frontDoor.jwt.keySecret.name=issuer",
    "frontDoor.jwt.issuer=https://id.example.com/",
    "frontDoor.jwt.audience=models",
    "frontDoor.metricsNamespaces={monitoring}",
    "frontDoor.service.type=LoadBalancer",
    "frontDoor.service.annotations.note=x",
    "frontDoor.service.nodePorts.grpc=30081",
    "frontDoor.service.loadBalancerClass=lan",
    "frontDoor.service.loadBalancerSourceRanges={192.0.2.0/24}",
    "frontDoor.service.externalTrafficPolicy=Local",
    "frontDoor.ingress.enabled=true",
    "frontDoor.ingress.className=lan",
    "frontDoor.ingress.annotations.note=x",
    "frontDoor.ingress.hosts={models.example.com,*.vision.models.example.com}",
    "frontDoor.ingress.tls[0].secretName=front-door-tls",
    "frontDoor.nodeSelector.edge=yes",
    "frontDoor.tolerations[0].key=edge",
    "frontDoor.affinity.nodeAffinity.x=y",
    "frontDoor.topologySpreadConstraints[0].maxSkew=1",
    "frontDoor.priorityClassName=system-cluster-critical",
    "frontDoor.podLabels.team=platform",
    "frontDoor.podAnnotations.note=x",
    "frontDoor.agent.extraArgs={--address=0.0.0.0}",
)


@pytest.mark.parametrize("settings", [(), EVERYTHING], ids=["defaults", "everything"])
def test_lint_finds_nothing(helm: Path, settings: tuple[str, ...]) -> None:
    sets = [word for setting in settings for word in ("--set", setting)]
    done = call(helm, "lint", "--strict", str(CHART), *sets)
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout + done.stderr


def test_every_object_names_release_and_namespace(helm: Path) -> None:
    cluster_wide = {"ClusterRole", "ClusterRoleBinding", "PriorityClass"}
    for (kind, _), body in rendered(helm, *EVERYTHING).items():
        assert body["metadata"]["labels"]["app.kubernetes.io/instance"] == "conch"
        wanted = None if kind in cluster_wide else NAMESPACE
        assert body["metadata"].get("namespace") == wanted


def test_the_operator_gets_arguments_that_it_knows(helm: Path) -> None:
    for settings in ((), EVERYTHING):
        command, run, *given = arguments(rendered(helm, *settings))
        assert (command, run) == ("conch", "run")
        # --help ends the command once all that stands before it was read.
        done = CliRunner().invoke(app, ["run", *given, "--help"])
        assert done.exit_code == 0, done.output
    unknown = CliRunner().invoke(app, ["run", "--no-such-argument", "--help"])
    assert unknown.exit_code != 0


def test_values_reach_the_operator(helm: Path) -> None:
    given = arguments(rendered(helm, *EVERYTHING, "operator.tickSeconds=2"))
    assert "--prometheus-url=http://prometheus.monitoring:9090" in given
    assert "--file-source-prefix=/srv/models" in given
    assert "--file-source-prefix=/srv/more" in given
    assert "--tick-seconds=2" in given
    signs = [a.lower() for a in given if a.startswith("--node-sign")]
    assert signs == ["--node-sign=kerneldeadlock=ignore", "--node-sign=mine=true"]
    assert not [a for a in arguments(rendered(helm)) if a.startswith("--prometheus-url")]


def test_defaults_are_those_of_the_command_line(helm: Path) -> None:
    given = arguments(rendered(helm))
    assert f"--triton-image={TRITON_IMAGE}" in given
    assert f"--fetch-image={CONCH_IMAGE}" in given
    assert pod_spec(rendered(helm))["containers"][0]["image"] == CONCH_IMAGE
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == __version__


def test_triton_settings_of_the_installation_reach_the_operator(helm: Path) -> None:
    settings = ("triton.args={--log-verbose=1,--log-info=0}", "triton.env.LD_PRELOAD=/a b.so")
    given = arguments(rendered(helm, *settings))
    assert [a for a in given if a.startswith("--triton-")] == [
        f"--triton-image={TRITON_IMAGE}",
        "--triton-arg=--log-verbose=1",
        "--triton-arg=--log-info=0",
        "--triton-env=LD_PRELOAD=/a b.so",
    ]


def test_several_operators_prefer_nodes_of_their_own_and_leave_one_by_one(helm: Path) -> None:
    one, two = rendered(helm), rendered(helm, "replicas=2")
    assert ("PodDisruptionBudget", "conch") not in one
    assert "affinity" not in pod_spec(one)
    labels = two["Deployment", "conch"]["spec"]["selector"]["matchLabels"]
    budget = two["PodDisruptionBudget", "conch"]["spec"]
    assert (budget["maxUnavailable"], budget["selector"]) == (1, {"matchLabels": labels})
    (term,) = pod_spec(two)["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    assert term["podAffinityTerm"]["labelSelector"] == {"matchLabels": labels}
    own = rendered(helm, "replicas=2", "affinity.nodeAffinity.x=y")
    assert pod_spec(own)["affinity"] == {"nodeAffinity": {"x": "y"}}


def test_the_operator_leaves_a_lost_node_soon_unless_the_user_says_otherwise(helm: Path) -> None:
    def seconds(*settings: str) -> dict[str, int | None]:
        tolerations = pod_spec(rendered(helm, *settings))["tolerations"]
        return {t["key"]: t.get("tolerationSeconds") for t in tolerations}

    silent, unready = "node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"
    assert seconds() == {silent: 15, unready: 15}
    own = (f"tolerations[0].key={silent}", "tolerations[0].tolerationSeconds=90")
    assert seconds(*own) == {silent: 90, unready: 15}


def test_a_digest_goes_before_the_tag(helm: Path) -> None:
    digest = "sha256:" + "0" * 64
    objects = rendered(
        helm, "image.tag=x", f"image.digest={digest}", "image.repository=r.example/c"
    )
    assert pod_spec(objects)["containers"][0]["image"] == f"r.example/c@{digest}"
    assert f"--fetch-image=r.example/c@{digest}" in arguments(objects)


def test_the_pod_keeps_to_the_restricted_standard(helm: Path) -> None:
    spec = pod_spec(rendered(helm))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"]
    assert {next(k for k in v if k != "name") for v in spec["volumes"]} == {"emptyDir"}


def rules(objects: Objects) -> list[tuple[Object, Object]]:
    roles = [o for (kind, _), o in objects.items() if kind in ("ClusterRole", "Role")]
    return [(role, rule) for role in roles for rule in role["rules"]]


def allowed(objects: Objects, kind: str) -> set[str]:
    """What the operator's own roles let it do to objects of a kind."""
    resource = RESOURCES[kind]
    own = {("ClusterRole", "conch"), ("Role", "conch-leader")}
    return {
        verb
        for role, rule in rules({key: o for key, o in objects.items() if key in own})
        if role
        for verb in rule["verbs"]
        if resource.group in rule["apiGroups"] and resource.plural in rule["resources"]
    }


def test_no_role_has_a_wildcard_and_the_front_doors_alone_reads_secrets(helm: Path) -> None:
    found = rules(rendered(helm, *EVERYTHING))
    assert found
    for role, rule in found:
        for part in ("apiGroups", "resources", "verbs"):
            assert not [w for w in rule[part] if "*" in w], role["metadata"]["name"]
        assert not {"pods/exec", "roles", "clusterroles"} & set(rule["resources"])
        if role["metadata"]["name"] != "conch-front-door":
            assert "secrets" not in rule["resources"]


@pytest.mark.parametrize("kind", sorted({*WATCHED, *CHILDREN}))
def test_the_operator_may_watch_what_it_watches(helm: Path, kind: str) -> None:
    assert allowed(rendered(helm), kind) >= {"get", "list", "watch"}


@pytest.mark.parametrize("kind", CHILDREN)
def test_the_operator_may_make_children(helm: Path, kind: str) -> None:
    assert allowed(rendered(helm), kind) >= {"create", "patch", "delete"}


def test_the_operator_may_do_no_more_than_it_does(helm: Path) -> None:
    objects = rendered(helm)
    assert allowed(objects, "Pod") == {"get", "list", "watch", "patch", "delete"}
    assert allowed(objects, "Node") == {"get", "list", "watch"}
    assert allowed(objects, "Event") == {"create"}
    assert allowed(objects, "ModelService") == {"get", "list", "watch"}
    assert allowed(objects, "Lease") == {"create", "get", "update"}


def operator_args(objects: Objects) -> list[str]:
    spec = objects["Deployment", "conch"]["spec"]["template"]["spec"]
    return [str(a) for a in spec["containers"][0]["args"]]


def test_mirrors_are_told_to_the_operator(helm: Path) -> None:
    registry = "sources.endpoints.oci.registry\\.lan:5000=http://registry.lan:5000"
    objects = rendered(helm, "sources.endpoints.hf=https://hub.lan", registry)
    told = [a for a in operator_args(objects) if a.startswith("--source-endpoint")]
    assert told == [
        "--source-endpoint=hf=https://hub.lan",
        "--source-endpoint=oci/registry.lan:5000=http://registry.lan:5000",
    ]
    plain = operator_args(rendered(helm))
    assert not [a for a in plain if a.startswith("--source-endpoint")]


def test_volumes_are_touched_only_where_file_sources_are_allowed(helm: Path) -> None:
    assert allowed(rendered(helm), "PersistentVolume") == set()
    with_files = rendered(helm, "sources.filePrefixes={/srv/models}")
    assert allowed(with_files, "PersistentVolume") >= {"list", "watch", "create", "patch", "delete"}


def test_devices_of_dra_are_read_only_where_that_is_asked_for(helm: Path) -> None:
    plain, asked = rendered(helm), rendered(helm, "dra.enabled=true")
    assert "--dra" in arguments(asked)
    assert "--dra" not in arguments(plain)
    for kind in OF_DRA:
        assert allowed(plain, kind) == set()
        assert allowed(asked, kind) >= {"get", "list", "watch"}
    assert allowed(asked, "ResourceClaimTemplate") >= {"create", "patch", "delete"}
    assert allowed(asked, "ResourceClaim") == {"get", "list", "watch"}


def test_pods_are_marked_for_those_who_are_there_and_for_nobody_else(helm: Path) -> None:
    told = [a for a in arguments(rendered(helm, *EVERYTHING)) if a.startswith("--beside")]
    assert told == [
        "--beside=kueue",
        "--beside=kai=shared",
        "--beside=priority-classes",
        "--beside=karpenter=1h30m",
        "--beside=cluster-autoscaler",
        "--beside=descheduler",
    ]
    said = coexistence(a.partition("=")[2] for a in told)
    off = Coexistence()
    assert not [
        f.name
        for f in fields(said)
        if f.name != "kueue_queue" and getattr(said, f.name) == getattr(off, f.name)
    ]
    plain = rendered(helm)
    assert not [a for a in arguments(plain) if a.startswith("--beside")]
    assert not [kind for kind, _ in plain if kind == "PriorityClass"]


def test_priority_classes_preempt_nobody_and_outlive_the_chart(helm: Path) -> None:
    on = ("coexistence.priorityClasses.enabled=true", "coexistence.priorityClasses.high=5")
    found = {n: o for (kind, n), o in rendered(helm, *on).items() if kind == "PriorityClass"}
    assert {name: o["value"] for name, o in found.items()} == dict(
        zip(PRIORITY_CLASSES, (-1000, 0, 5), strict=True)
    )
    for body in found.values():
        assert body["preemptionPolicy"] == "Never"
        assert body["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def cache_pod(objects: Objects) -> Object:
    spec = objects["DaemonSet", "conch-cache"]["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def test_no_cache_is_kept_unless_it_is_asked_for(helm: Path) -> None:
    objects = rendered(helm)
    assert not [kind for kind, name in objects if kind == "DaemonSet" or "cache" in name]
    assert not [a for a in arguments(objects) if a.startswith("--cache-path")]
    assert allowed(objects, "Namespace") == set()


def test_operator_and_agent_mean_the_same_cache(helm: Path) -> None:
    objects = rendered(helm, "cache.enabled=true", "cache.path=/data/cache", "cache.size=5Gi")
    assert "--cache-path=/data/cache" in arguments(objects)
    assert allowed(objects, "PersistentVolume") >= {"list", "watch", "create", "patch", "delete"}
    assert allowed(objects, "Namespace") == {"get"}
    spec = cache_pod(objects)
    (container,) = spec["containers"]
    assert {"--path=/data/cache", "--size=5Gi"} <= set(container["args"])
    assert spec["volumes"][0]["hostPath"]["path"] == "/data/cache"
    assert container["volumeMounts"] == [{"name": "cache", "mountPath": "/data/cache"}]
    done = CliRunner().invoke(app, [container["command"][1], *container["args"], "--help"])
    assert done.exit_code == 0, done.output


def test_the_agent_of_the_cache_is_root_with_little_else(helm: Path) -> None:
    objects = rendered(helm, *EVERYTHING)
    (container,) = cache_pod(objects)["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"]},
    }
    (rule,) = objects["ClusterRole", "conch-cache"]["rules"]
    assert rule == {"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["get"]}
    assert cache_pod(objects)["tolerations"] == [{"operator": "Exists"}]


def test_the_operators_selector_takes_in_no_agent(helm: Path) -> None:
    objects = rendered(helm, *EVERYTHING)
    wanted = objects["Deployment", "conch"]["spec"]["selector"]["matchLabels"]
    labels = objects["DaemonSet", "conch-cache"]["spec"]["template"]["metadata"]["labels"]
    assert not wanted.items() <= labels.items()


def test_the_lease_is_the_one_that_the_role_names(helm: Path) -> None:
    objects = rendered(helm, "operator.leaseName=other")
    assert "--lease-name=other" in arguments(objects)
    names = [r["resourceNames"] for _, r in rules(objects) if "resourceNames" in r]
    assert names == [["other"]]


def test_bindings_are_for_the_account_that_the_pod_has(helm: Path) -> None:
    for settings in ((), ("serviceAccount.create=false", "serviceAccount.name=mine")):
        objects = rendered(helm, *settings)
        account = pod_spec(objects)["serviceAccountName"]
        bindings = [
            o
            for (kind, name), o in objects.items()
            if kind.endswith("Binding") and name != "conch-front-door"
        ]
        subject = {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}
        assert [b["subjects"] for b in bindings] == [[subject], [subject]]
        assert (("ServiceAccount", account) in objects) == (not settings)


def test_parts_can_be_left_out(helm: Path) -> None:
    left_out = ("rbac.create=false", "aggregateRoles=false", "frontDoor.enabled=false")
    objects = rendered(helm, *left_out)
    assert {kind for kind, _ in objects} == {"ServiceAccount", "Deployment"}


def test_users_get_services_and_models_but_not_pools_and_catalogue(helm: Path) -> None:
    objects = rendered(helm)
    edit = objects["ClusterRole", "conch-edit"]
    assert edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    changed = {resource for rule in edit["rules"] for resource in rule["resources"]}
    assert changed == {"modelservices", "models", "modelmigrations", "modelservices/scale"}
    view = objects["ClusterRole", "conch-view"]
    assert {v for rule in view["rules"] for v in rule["verbs"]} == {"get", "list", "watch"}


def test_pod_monitor_gives_series_the_labels_that_queries_group_by(helm: Path) -> None:
    monitor = rendered(helm, *EVERYTHING)["PodMonitor", "conch-models"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    kept = set(monitor["spec"]["podTargetLabels"])
    assert kept >= {"conch.dev/service", "conch.dev/revision", "conch.dev/pool"}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"


def test_the_operator_is_scraped_under_the_names_of_its_services(helm: Path) -> None:
    objects = rendered(helm, *EVERYTHING)
    monitor = objects["PodMonitor", "conch"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    template = objects["Deployment", "conch"]["spec"]["template"]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= template["metadata"]["labels"].items()
    agent = objects["DaemonSet", "conch-cache"]["spec"]["template"]
    assert not wanted.items() <= agent["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["honorLabels"]
    ports = {p["name"] for p in template["spec"]["containers"][0]["ports"]}
    assert endpoint["port"] in ports


SCHEMA: Object = json.loads((CHART / "values.schema.json").read_text())
REFUSED = [
    ("replicas=some", "at '/replicas': got string, want integer"),
    ("operator.tickseconds=2", "additional properties 'tickseconds' not allowed"),
    ("operator.tickSeconds=0", "at '/operator/tickSeconds': minimum: got 0, want 0.2"),
    ("prometheus.url=prometheus:9090", "at '/prometheus/url': 'prometheus:9090' does not match"),
    ("sources.filePrefixes={models}", "at '/sources/filePrefixes/0': 'models' does not match"),
    ("sources.endpoints.s3=minio:9000", "at '/sources/endpoints/s3': 'minio:9000' does not match"),
    ("cache.size=much", "at '/cache/size': 'much' does not match"),
    ("cache.path=/", "at '/cache/path': '/' does not match"),
    ("image.pullPolicy=Sometimes", "at '/image/pullPolicy': value must be one of"),
    ("recordingRules.interval=5", "at '/recordingRules/interval': got number, want string"),
    ("recordingRules.interval=often", "at '/recordingRules/interval': 'often' does not match"),
    ("podMonitor.interval=5", "at '/podMonitor/interval': got number, want string"),
    ("triton.args={log-verbose=1}", "at '/triton/args/0': 'log-verbose=1' does not match"),
    ("triton.env=A=b", "at '/triton/env': got string, want object"),
    ("image.digest=abc", "at '/image/digest': 'abc' does not match"),
    ("serviceAccount.create=false", "Give serviceAccount.name"),
    (
        "coexistence.karpenter.duration=soon",
        "at '/coexistence/karpenter/duration': 'soon' does not",
    ),
    ("coexistence.kueue.queue=A B", "at '/coexistence/kueue/queue': 'A B' does not match"),
]


@pytest.mark.parametrize(("setting", "words"), REFUSED, ids=[s for s, _ in REFUSED])
def test_wrong_values_are_refused_in_words(helm: Path, setting: str, words: str) -> None:
    assert words in refused(helm, setting)


def test_rules_are_what_the_code_generates() -> None:
    stored = (CHART / "rules" / "conch.rules.yaml").read_text()
    assert stored == recording.text(), "run `make docs`"


def test_rules_come_as_an_object_or_as_a_file(helm: Path) -> None:
    objects = rendered(helm, *EVERYTHING)
    rule = objects["PrometheusRule", "conch"]
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    groups = [{**group, "interval": "15s"} for group in recording.rule_file()["groups"]]
    assert rule["spec"]["groups"] == groups
    (told,) = objects["ConfigMap", "conch-rules"]["data"].values()
    assert yaml.safe_load(told) == recording.rule_file()
    assert not {"PrometheusRule", "ConfigMap"} & {kind for kind, _ in rendered(helm)}


def test_alerts_are_what_the_code_generates() -> None:
    stored = (CHART / "rules" / "conch.alerts.yaml").read_text()
    assert stored == recording.alert_text(), "run `make docs`"


def test_alerts_come_as_an_object_or_as_a_file(helm: Path) -> None:
    objects = rendered(helm, *EVERYTHING)
    rule = objects["PrometheusRule", "conch-alerts"]
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert rule["spec"] == recording.alert_file()
    (told,) = objects["ConfigMap", "conch-alerts"]["data"].values()
    assert yaml.safe_load(told) == recording.alert_file()


def test_dashboards_come_where_the_sidecar_of_grafana_looks(helm: Path) -> None:
    found = rendered(helm, *EVERYTHING)["ConfigMap", "conch-dashboards"]
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["labels"]["release"] == "prometheus"
    assert found["metadata"]["annotations"] == {"grafana_folder": "Conch"}
    stored = {p.name: json.loads(p.read_text()) for p in (CHART / "dashboards").iterdir()}
    assert stored
    assert {name: json.loads(text) for name, text in found["data"].items()} == stored


def in_schema(path: str, values: Object, schema: Object) -> None:
    assert set(values) == set(schema["properties"]) - {"global"}, path
    for name, part in values.items():
        inner = schema["properties"][name]
        reference = inner.get("$ref", "").removeprefix("#/definitions/")
        inner = SCHEMA["definitions"][reference] if reference else inner
        if "properties" in inner:
            assert inner["additionalProperties"] is False, f"{path}.{name}"
            in_schema(f"{path}.{name}", part, inner)


def test_every_value_is_in_the_schema_however_deep() -> None:
    in_schema("", yaml.safe_load((CHART / "values.yaml").read_text()), SCHEMA)


def test_crds_are_those_of_the_repository() -> None:
    wanted = {p.name: p.read_bytes() for p in (ROOT / "crds").iterdir()}
    shipped = {p.name: p.read_bytes() for p in (CHART / "crds").iterdir()}
    assert shipped == wanted, "run `make crds`"


def test_a_packaged_chart_holds_crds_outside_the_release(helm: Path, tmp_path: Path) -> None:
    # What stands under crds/ is installed once, and never removed by helm uninstall.
    assert call(helm, "package", str(CHART), "-d", str(tmp_path)).returncode == 0
    (package,) = tmp_path.glob("*.tgz")
    shown = call(helm, "template", "conch", str(package), "--include-crds").stdout
    objects = [d for d in yaml.safe_load_all(shown) if d]
    names = {d["metadata"]["name"] for d in objects if d["kind"] == "CustomResourceDefinition"}
    assert names == {kind.crd_name for kind in KINDS}
    assert "CustomResourceDefinition" not in {kind for kind, _ in rendered(helm)}
