"""The front door in the Helm chart, as helm renders it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from conch.api import names
from conch.cli.main import app
from conch.clients.resources import RESOURCES
from conch.frontdoor import keeper
from e2e.images import haproxy
from tests.kit.chart import CHART, NAMESPACE, Object, Objects, call, refused, rendered, template

NAME = "conch-front-door"
GATEWAY = "gateway.networking.k8s.io/v1"
ROUTES = ("frontDoor.gateway.enabled=true", "frontDoor.gateway.parentRefs[0].name=public")
KEEPER = ["python3", "-m", keeper.__name__, str(names.PORT_FRONT_DOOR_AGENT), "conch", "front-door"]
JWT = ("frontDoor.jwt.enabled=true", "frontDoor.jwt.keySecret.name=issuer")


def pod(objects: Objects) -> Object:
    found = objects["Deployment", NAME]["spec"]["template"]
    assert isinstance(found, dict)
    return found


def containers(objects: Objects) -> dict[str, Object]:
    spec = pod(objects)["spec"]
    return {c["name"]: c for c in [*spec["initContainers"], *spec["containers"]]}


def arguments(objects: Objects, container: str = "agent") -> list[str]:
    found = containers(objects)[container]
    return [*found["command"], *found["args"]]


def told(objects: Objects) -> list[str]:
    """What the operator is told of the front door."""
    spec = objects["Deployment", "conch"]["spec"]["template"]["spec"]
    about = ("--front-door", "--isolate", "--metrics-namespace")
    return [a for a in spec["containers"][0]["args"] if a.startswith(about)]


def ports(objects: Objects) -> dict[str, tuple[int, int]]:
    return {
        p["name"]: (p["port"], p["targetPort"]) for p in objects["Service", NAME]["spec"]["ports"]
    }


def test_without_it_nothing_of_it_is_there(helm: Path) -> None:
    off = rendered(helm, "frontDoor.enabled=false", "podMonitor.enabled=true", *ROUTES)
    assert not [name for _, name in off if "front-door" in name]
    assert told(off) == []
    assert "front-door" not in template(helm, "frontDoor.enabled=false")


@pytest.mark.parametrize(
    "settings",
    [
        (),
        (
            *JWT,
            "frontDoor.jwt.issuer=https://id.example.com/",
            "frontDoor.jwt.audience=models",
            "frontDoor.domain=models.example.com",
            "frontDoor.tls.secretName=tls",
            "frontDoor.keys.everywhere=true",
            "frontDoor.agent.extraArgs={--address=0.0.0.0}",
        ),
    ],
    ids=["defaults", "everything"],
)
def test_the_agent_gets_arguments_that_it_knows(helm: Path, settings: tuple[str, ...]) -> None:
    objects = rendered(helm, *settings)
    assert arguments(objects, "prepare")[:2] == ["conch", "front-door"]
    assert arguments(objects)[: len(KEEPER)] == KEEPER
    for container, skipped in (("prepare", 2), ("agent", len(KEEPER))):
        given = arguments(objects, container)[skipped:]
        done = CliRunner().invoke(app, ["front-door", *given, "--help"])
        assert done.exit_code == 0, done.output
    prepared, stays = containers(objects)["prepare"], containers(objects)["agent"]
    assert sorted(prepared["args"]) == sorted([*stays["args"], "--prepare"])
    unknown = CliRunner().invoke(app, ["front-door", "--no-such-argument", "--help"])
    assert unknown.exit_code != 0


def test_values_reach_the_agent(helm: Path) -> None:
    plain = arguments(rendered(helm))
    absent = ("--domain", "--tls-secret", "--keys-everywhere", "--jwt")
    assert not [a for a in plain if a.startswith(absent)]
    assert {"--threads=2", "--max-connections=10000", "--log-level=INFO"} <= set(plain)
    given = arguments(
        rendered(
            helm,
            *JWT,
            "frontDoor.jwt.tenantClaim=team",
            "frontDoor.jwt.audience=models",
            "frontDoor.domain=models.example.com",
            "frontDoor.tls.secretName=tls",
            "frontDoor.keys.everywhere=true",
            "frontDoor.haproxy.threads=8",
            "frontDoor.haproxy.maxConnections=2000000",
            "frontDoor.haproxy.maxConnectionsPerSource=5000",
            "frontDoor.longestStreamSeconds=60",
        )
    )
    assert set(given) >= {
        "--domain=models.example.com",
        "--tls-secret=tls",
        "--keys-everywhere",
        "--jwt-algorithm=RS256",
        "--jwt-tenant-claim=team",
        "--jwt-audience=models",
        "--threads=8",
        "--max-connections=2000000",
        "--max-connections-per-source=5000",
        "--longest-stream=60",
    }


def test_the_front_doors_own_names_reach_the_agent(helm: Path) -> None:
    plain = arguments(rendered(helm))
    assert "--own-service=conch-front-door" in plain
    assert not [a for a in plain if a.startswith("--own-host")]
    given = arguments(
        rendered(
            helm,
            "frontDoor.url=https://models.example.com:8443",
            "frontDoor.grpc=grpc.example.com:443",
            "frontDoor.ingress.hosts={models.example.com,*.vision.example.com}",
            "frontDoor.ownHosts={lb-1.cloud.example.com}",
        )
    )
    assert [a for a in given if a.startswith("--own-host")] == [
        "--own-host=models.example.com",
        "--own-host=grpc.example.com",
        "--own-host=lb-1.cloud.example.com",
    ]


def test_haproxy_reads_what_the_agent_writes(helm: Path) -> None:
    found = containers(rendered(helm))
    folder = next(a for a in arguments(rendered(helm)) if a.startswith("--directory="))
    place = folder.partition("=")[2]
    words = found["haproxy"]["command"]
    assert words == ["haproxy", "-W", "-S", f"{place}/master.sock", "-f", f"{place}/haproxy.cfg"]
    for container in found.values():
        assert {"name": "front-door", "mountPath": place} in container["volumeMounts"]
    assert found["haproxy"]["image"] == haproxy.NAME


def test_the_agent_is_there_before_haproxy_and_after_it(helm: Path) -> None:
    spec = pod(rendered(helm))["spec"]
    prepare, agent = spec["initContainers"]
    assert (prepare["name"], agent["name"]) == ("prepare", "agent")
    assert "restartPolicy" not in prepare
    assert agent["restartPolicy"] == "Always"
    assert [c["name"] for c in spec["containers"]] == ["haproxy"]


def test_the_ports_are_those_of_the_code(helm: Path) -> None:
    found = containers(rendered(helm))
    assert {p["name"]: p["containerPort"] for p in found["haproxy"]["ports"]} == {
        "http": names.PORT_FRONT_DOOR_HTTP,
        "https": names.PORT_FRONT_DOOR_HTTPS,
        "ready": names.PORT_FRONT_DOOR_HEALTH,
    }
    (agent,) = found["agent"]["ports"]
    assert agent["containerPort"] == names.PORT_FRONT_DOOR_AGENT
    assert f"--port={names.PORT_FRONT_DOOR_AGENT}" in arguments(rendered(helm))
    http, https = names.PORT_FRONT_DOOR_HTTP, names.PORT_FRONT_DOOR_HTTPS
    assert ports(rendered(helm)) == {"http": (80, http), "grpc": (8001, http)}
    with_tls = rendered(helm, "frontDoor.tls.secretName=tls")
    assert ports(with_tls) == {"http": (80, http), "grpc": (8001, http), "https": (443, https)}


def test_haproxy_is_asked_whether_it_is_ready_and_whether_it_lives(helm: Path) -> None:
    found = containers(rendered(helm))
    assert found["haproxy"]["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "ready"}
    # What it answers to the question of readiness must not have it killed.
    assert found["haproxy"]["livenessProbe"]["tcpSocket"] == {"port": "ready"}
    # A container that is killed, or not ready, would take HAProxy out of the Service with it.
    assert not [k for k in found["agent"] if k.endswith("Probe")]


def test_haproxy_gets_the_time_that_it_needs_to_end(helm: Path) -> None:
    objects = rendered(helm, "frontDoor.closeGraceSeconds=40")
    spec = pod(objects)["spec"]
    shell, flag, script = containers(objects)["haproxy"]["lifecycle"]["preStop"]["exec"]["command"]
    assert (shell, flag) == ("sh", "-c")
    wait, signal, end = script.split("; ")
    assert (signal, end) == ("kill -USR1 1", "sleep 40")
    bound = int(wait.removeprefix("sleep ")) + 40
    assert bound < spec["terminationGracePeriodSeconds"] <= bound + 15


def test_pods_are_found_by_the_operator_and_taken_in_by_no_selector_of_its(helm: Path) -> None:
    objects = rendered(helm)
    labels = pod(objects)["metadata"]["labels"]
    assert labels[names.LABEL_FRONT_DOOR] == names.FRONT_DOOR
    assert names.LABEL_MANAGED_BY not in labels  # else they would pass for a service's
    others = objects["Deployment", "conch"]["spec"]["selector"]["matchLabels"]
    assert not others.items() <= labels.items()
    own = objects["Deployment", NAME]["spec"]["selector"]["matchLabels"]
    for part in (
        objects["PodDisruptionBudget", NAME]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy", NAME]["spec"]["podSelector"]["matchLabels"],
        objects["Service", NAME]["spec"]["selector"],
    ):
        assert part == own
    assert own.items() <= labels.items()
    operator = objects["Deployment", "conch"]["spec"]["template"]["metadata"]["labels"]
    assert not own.items() <= operator.items()


def test_the_pod_keeps_to_the_restricted_standard(helm: Path) -> None:
    objects = rendered(helm, *JWT)
    spec = pod(objects)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == int(haproxy.SETTINGS.user.partition(":")[0])
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(objects).values():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"]
        assert all(p["containerPort"] > 1024 for p in container.get("ports", ()))
    kinds = {next(k for k in v if k != "name") for v in spec["volumes"]}
    assert kinds == {"emptyDir", "secret"}


def granted(objects: Objects, kind: str) -> list[tuple[str, set[str]]]:
    """Which of the front door's roles let it do what to objects of a kind."""
    resource = RESOURCES[kind]
    return [
        (role, set(rule["verbs"]))
        for (role, name), body in objects.items()
        if name == NAME and role.endswith("Role")
        for rule in body["rules"]
        if resource.group in rule["apiGroups"] and resource.plural in rule["resources"]
    ]


def test_the_agent_may_read_and_nothing_else(helm: Path) -> None:
    objects = rendered(helm, "frontDoor.keys.everywhere=true")
    reads = {"get", "list", "watch"}
    for kind in ("Pod", "Service", "ModelService", "Model", "ClusterModel", "Tenant"):
        assert granted(objects, kind) == [("ClusterRole", reads)], kind
    roles = [o for (kind, name), o in objects.items() if kind.endswith("Role") and name == NAME]
    assert {v for role in roles for rule in role["rules"] for v in rule["verbs"]} == reads


def test_secrets_of_other_namespaces_are_read_only_where_that_is_asked_for(helm: Path) -> None:
    reads = {"get", "list", "watch"}
    assert granted(rendered(helm), "Secret") == [("Role", reads)]
    everywhere = rendered(helm, "frontDoor.keys.everywhere=true")
    assert sorted(granted(everywhere, "Secret")) == [("ClusterRole", reads), ("Role", reads)]


def test_roles_are_bound_to_the_account_of_the_pods(helm: Path) -> None:
    objects = rendered(helm)
    assert pod(objects)["spec"]["serviceAccountName"] == NAME
    assert ("ServiceAccount", NAME) in objects
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
    for kind in ("ClusterRole", "Role"):
        binding = objects[f"{kind}Binding", NAME]
        assert binding["subjects"] == [subject]
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == (kind, NAME)
    without = rendered(helm, "rbac.create=false")
    assert not [kind for kind, _ in without if "Role" in kind and "Cluster" not in kind]
    assert ("ServiceAccount", NAME) in without


ADDRESSES = [
    ((), ("http://conch-front-door.conch-system.svc", "conch-front-door.conch-system.svc:8001")),
    # Nobody knows a certificate for the name of a Service.
    (
        ("frontDoor.tls.secretName=tls",),
        ("http://conch-front-door.conch-system.svc", "conch-front-door.conch-system.svc:8001"),
    ),
    (
        ("frontDoor.tls.secretName=tls", "frontDoor.domain=models.example.com"),
        ("https://conch-front-door.conch-system.svc", "conch-front-door.conch-system.svc:443"),
    ),
    (
        ("frontDoor.url=https://models.example.com", "frontDoor.grpc=models.example.com:443"),
        ("https://models.example.com", "models.example.com:443"),
    ),
]


@pytest.mark.parametrize(("settings", "addresses"), ADDRESSES)
def test_the_operator_is_told_where_callers_ask(
    helm: Path, settings: tuple[str, ...], addresses: tuple[str, str]
) -> None:
    given = told(rendered(helm, *settings))
    url, grpc = addresses
    assert given[:2] == [f"--front-door-url={url}", f"--front-door-grpc={grpc}"]
    assert ("--front-door-domain=models.example.com" in given) == any(
        "domain=" in s for s in settings
    )
    done = CliRunner().invoke(app, ["run", *given, "--help"])
    assert done.exit_code == 0, done.output


def test_the_name_stays_one_of_a_service_however_long_the_release_is(helm: Path) -> None:
    objects = rendered(helm, f"fullnameOverride={'a' * 51}-bc")
    (name,) = [name for kind, name in objects if kind == "Service"]
    assert name == f"{'a' * 51}-front-door"
    assert f"--front-door-url=http://{name}.{NAMESPACE}.svc" in template(
        helm, f"fullnameOverride={'a' * 51}-bc"
    )


def agent_sources(objects: Objects) -> Any:
    (rule,) = [
        rule
        for rule in objects["NetworkPolicy", NAME]["spec"]["ingress"]
        if {"port": names.PORT_FRONT_DOOR_AGENT, "protocol": "TCP"} in rule["ports"]
    ]
    return rule["from"]


def test_isolation_is_the_operators_and_the_front_doors(helm: Path) -> None:
    objects = rendered(helm)
    assert "--isolate" in told(objects)
    open_to_all, agents = objects["NetworkPolicy", NAME]["spec"]["ingress"]
    assert "from" not in open_to_all
    assert {p["port"] for p in open_to_all["ports"]} == {
        p["containerPort"] for p in containers(objects)["haproxy"]["ports"]
    }
    assert agents["from"] == [{"namespaceSelector": {}}]  # pods, and nobody from outside
    off = rendered(helm, "frontDoor.isolate=false", "frontDoor.metricsNamespaces={monitoring}")
    assert not [a for a in told(off) if not a.startswith("--front-door")]
    assert ("NetworkPolicy", NAME) not in off


def test_metrics_are_for_the_namespaces_that_are_named(helm: Path) -> None:
    objects = rendered(helm, "frontDoor.metricsNamespaces={monitoring,watch}")
    assert {"--metrics-namespace=monitoring", "--metrics-namespace=watch"} <= set(told(objects))
    own, others = agent_sources(objects)
    assert own == {"podSelector": {}}  # the operator, for the report
    (expression,) = others["namespaceSelector"]["matchExpressions"]
    assert expression == {
        "key": "kubernetes.io/metadata.name",
        "operator": "In",
        "values": ["monitoring", "watch"],
    }


def test_prometheus_finds_the_agent_and_leaves_the_labels_of_services_alone(helm: Path) -> None:
    objects = rendered(helm, "podMonitor.enabled=true", "podMonitor.labels.release=prometheus")
    monitor = objects["PodMonitor", NAME]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    labels = pod(objects)["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {p["name"] for p in containers(objects)["agent"]["ports"]}
    assert "honorLabels" not in endpoint
    assert "podTargetLabels" not in monitor["spec"]
    for name in ("conch", "conch-models"):
        selector = objects["PodMonitor", name]["spec"]["selector"]
        assert not selector["matchLabels"].items() <= labels.items()
    annotations = pod(objects)["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(names.PORT_FRONT_DOOR_AGENT)
    assert annotations["prometheus.io/scrape"] == "true"


def test_replicas_spread_over_nodes_and_zones_and_leave_one_by_one(helm: Path) -> None:
    objects = rendered(helm)
    own = objects["Deployment", NAME]["spec"]["selector"]
    # A constraint for zones here would undo that for nodes where nodes are in no zone.
    (spread,) = pod(objects)["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["labelSelector"] == own
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"  # one node must do
    (term,) = pod(objects)["spec"]["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    assert term["podAffinityTerm"] == {"topologyKey": names.LABEL_ZONE, "labelSelector": own}
    assert objects["PodDisruptionBudget", NAME]["spec"]["maxUnavailable"] == 1
    rolling = objects["Deployment", NAME]["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 1, "maxUnavailable": 0}
    constraint = ("frontDoor.topologySpreadConstraints[0].topologyKey=rack",)
    (only,) = pod(rendered(helm, *constraint))["spec"]["topologySpreadConstraints"]
    assert only == {"topologyKey": "rack"}
    # The one replica would never leave its node.
    assert ("PodDisruptionBudget", NAME) not in rendered(helm, "frontDoor.replicas=1")
    off = "frontDoor.podDisruptionBudget.enabled=false"
    assert ("PodDisruptionBudget", NAME) not in rendered(helm, off)


def test_pods_go_where_values_say(helm: Path) -> None:
    objects = rendered(
        helm,
        "frontDoor.priorityClassName=system-cluster-critical",
        "frontDoor.nodeSelector.edge=yes",
        "frontDoor.affinity.nodeAffinity.x=y",
        "frontDoor.tolerations[0].key=edge",
        "frontDoor.tolerations[0].operator=Exists",
        "frontDoor.podLabels.team=platform",
        "frontDoor.podAnnotations.note=x",
        "imagePullSecrets[0].name=registry",
    )
    spec = pod(objects)["spec"]
    assert spec["priorityClassName"] == "system-cluster-critical"
    assert spec["nodeSelector"] == {"edge": "yes"}
    assert spec["affinity"] == {"nodeAffinity": {"x": "y"}}
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    seconds = {t["key"]: t.get("tolerationSeconds") for t in spec["tolerations"]}
    lost = {"node.kubernetes.io/not-ready": 15, "node.kubernetes.io/unreachable": 15}
    assert seconds == {"edge": None, **lost}
    assert pod(objects)["metadata"]["labels"]["team"] == "platform"
    assert pod(objects)["metadata"]["annotations"]["note"] == "x"


def test_the_service_is_reached_from_outside_as_values_say(helm: Path) -> None:
    plain = rendered(helm, "frontDoor.service.nodePorts.http=30080")["Service", NAME]["spec"]
    assert plain["type"] == "ClusterIP"
    assert not [p for p in plain["ports"] if "nodePort" in p]
    node = rendered(
        helm,
        "frontDoor.service.type=NodePort",
        "frontDoor.service.nodePorts.http=30080",
        "frontDoor.service.externalTrafficPolicy=Local",
    )["Service", NAME]["spec"]
    assert {p["name"]: p.get("nodePort") for p in node["ports"]} == {"http": 30080, "grpc": None}
    assert node["externalTrafficPolicy"] == "Local"
    balanced = rendered(
        helm,
        "frontDoor.service.type=LoadBalancer",
        "frontDoor.service.loadBalancerClass=lan",
        "frontDoor.service.loadBalancerSourceRanges={192.0.2.0/24}",
        "frontDoor.service.annotations.note=x",
    )["Service", NAME]
    assert balanced["spec"]["loadBalancerClass"] == "lan"
    assert balanced["spec"]["loadBalancerSourceRanges"] == ["192.0.2.0/24"]
    assert balanced["metadata"]["annotations"] == {"note": "x"}
    assert {p["name"]: p.get("appProtocol") for p in balanced["spec"]["ports"]} == {
        "http": None,
        "grpc": "kubernetes.io/h2c",
    }


@pytest.mark.parametrize(
    ("source", "kind"), [("keySecret", "secret"), ("keyConfigMap", "configMap")]
)
def test_haproxy_and_agent_find_the_issuers_key(helm: Path, source: str, kind: str) -> None:
    objects = rendered(
        helm,
        "frontDoor.jwt.enabled=true",
        f"frontDoor.jwt.{source}.name=issuer",
        f"frontDoor.jwt.{source}.key=idp.pem",
    )
    (volume,) = [v for v in pod(objects)["spec"]["volumes"] if v["name"] == "jwt"]
    assert volume[kind]["secretName" if kind == "secret" else "name"] == "issuer"
    (item,) = volume[kind]["items"]
    assert item["key"] == "idp.pem"
    for container in containers(objects).values():
        (mount,) = [m for m in container["volumeMounts"] if m["name"] == "jwt"]
        assert f"--jwt-key={mount['mountPath']}/{item['path']}" in arguments(objects)


def test_an_ingress_leads_to_the_front_door(helm: Path) -> None:
    assert ("Ingress", NAME) not in rendered(helm)
    (rule,) = rendered(helm, "frontDoor.ingress.enabled=true")["Ingress", NAME]["spec"]["rules"]
    assert "host" not in rule
    found = rendered(
        helm,
        "frontDoor.ingress.enabled=true",
        "frontDoor.ingress.className=lan",
        "frontDoor.ingress.annotations.note=x",
        "frontDoor.ingress.hosts={models.example.com,*.vision.models.example.com}",
        "frontDoor.ingress.tls[0].secretName=tls",
    )["Ingress", NAME]
    assert found["metadata"]["annotations"] == {"note": "x"}
    assert found["spec"]["ingressClassName"] == "lan"
    assert found["spec"]["tls"] == [{"secretName": "tls"}]
    rules = found["spec"]["rules"]
    assert [r["host"] for r in rules] == ["models.example.com", "*.vision.models.example.com"]
    for each in [rule, *rules]:
        (path,) = each["http"]["paths"]
        assert (path["path"], path["pathType"]) == ("/", "Prefix")
        assert path["backend"]["service"] == {"name": NAME, "port": {"name": "http"}}


def backends(route: Object) -> list[int]:
    assert all(b["name"] == NAME for r in route["spec"]["rules"] for b in r["backendRefs"])
    return [b["port"] for r in route["spec"]["rules"] for b in r["backendRefs"]]


def test_one_route_of_a_gateway_carries_http_and_grpc(helm: Path) -> None:
    hosts = "frontDoor.gateway.hostnames={*.models.example.com}"
    objects = rendered(helm, *ROUTES, hosts, kinds=(GATEWAY,))
    route = objects["HTTPRoute", NAME]
    assert route["spec"]["parentRefs"] == [{"name": "public"}]
    assert route["spec"]["hostnames"] == ["*.models.example.com"]
    assert backends(route) == [8001, 80]
    calls = [m["path"]["value"] for m in route["spec"]["rules"][0]["matches"]]
    assert "/inference.GRPCInferenceService" in calls
    # A listener takes but one of them for a host.
    assert ("GRPCRoute", NAME) not in objects


@pytest.mark.parametrize(
    "setting",
    [
        "frontDoor.gateway.grpcHostnames={grpc.example.com}",
        "frontDoor.gateway.grpcParentRefs[0].name=inner",
    ],
)
def test_grpc_gets_a_route_of_its_own_where_it_has_a_place_of_its_own(
    helm: Path, setting: str
) -> None:
    objects = rendered(helm, *ROUTES, setting, kinds=(GATEWAY,))
    assert backends(objects["HTTPRoute", NAME]) == [80]
    route = objects["GRPCRoute", NAME]
    assert backends(route) == [8001]
    own = "grpcParentRefs" in setting
    assert route["spec"]["parentRefs"] == [{"name": "inner" if own else "public"}]
    assert route["spec"].get("hostnames") == (None if own else ["grpc.example.com"])


def test_routes_of_a_gateway_take_its_kinds(helm: Path) -> None:
    assert "the cluster has no kinds of gateway.networking.k8s.io/v1" in refused(helm, *ROUTES)
    assert "name the Gateways" in refused(helm, ROUTES[0], kinds=(GATEWAY,))


REFUSED = [
    ("frontDoor.domain=Models.example.com", "at '/frontDoor/domain': 'Models.example.com' does"),
    ("frontDoor.url=models.example.com", "at '/frontDoor/url': 'models.example.com' does not"),
    ("frontDoor.url=https://models.example.com/x", "at '/frontDoor/url'"),
    ("frontDoor.grpc=models.example.com", "at '/frontDoor/grpc': 'models.example.com' does not"),
    ("frontDoor.replicas=-1", "at '/frontDoor/replicas': minimum: got -1, want 0"),
    ("frontDoor.service.type=External", "at '/frontDoor/service/type': value must be one of"),
    ("frontDoor.service.nodePorts.http=70000", "at '/frontDoor/service/nodePorts/http': maximum"),
    ("frontDoor.service.port=80", "additional properties 'port' not allowed"),
    ("frontDoor.metricsNamespaces=monitoring", "at '/frontDoor/metricsNamespaces': got string"),
    # Its key would be the file's name: whoever knows it could sign.
    ("frontDoor.jwt.algorithm=HS256", "at '/frontDoor/jwt/algorithm': value must be one of"),
    ("frontDoor.jwt.issuer=a b", "at '/frontDoor/jwt/issuer': 'a b' does not match"),
    ("frontDoor.jwt.tenantClaim=a.b", "at '/frontDoor/jwt/tenantClaim': 'a.b' does not match"),
    ("frontDoor.jwt.enabled=true", "frontDoor.jwt: name the issuer's public key"),
    ("frontDoor.haproxy.threads=0", "at '/frontDoor/haproxy/threads': minimum: got 0, want 1"),
]


@pytest.mark.parametrize(("setting", "words"), REFUSED, ids=[s for s, _ in REFUSED])
def test_wrong_values_are_refused_in_words(helm: Path, setting: str, words: str) -> None:
    assert words in refused(helm, setting)


def test_an_issuers_key_comes_from_one_place(helm: Path) -> None:
    both = (*JWT, "frontDoor.jwt.keyConfigMap.name=issuer")
    assert "in one of keySecret and keyConfigMap" in refused(helm, *both)


def notes(helm: Path, folder: Path, **door: Any) -> str:
    """What helm prints in the end; it renders that for a cluster only, so here it is an object."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart, dirs_exist_ok=True)
    text = (CHART / "templates" / "NOTES.txt").read_text()
    (chart / "templates" / "_notes.tpl").write_text(f'{{{{ define "notes" }}}}{text}{{{{ end }}}}')
    (chart / "templates" / "notes.yaml").write_text('notes: {{ include "notes" . | quote }}\n')
    values = folder / "values.yaml"
    values.write_text(yaml.safe_dump({"frontDoor": door}))
    words = ("template", "conch", str(chart), "-n", NAMESPACE, "-s", "templates/notes.yaml")
    done = call(helm, *words, "-f", str(values))
    assert done.returncode == 0, done.stderr
    return str(yaml.safe_load(done.stdout)["notes"])


def test_the_notes_tell_how_to_ask(helm: Path, tmp_path: Path) -> None:
    plain = notes(helm, tmp_path)
    assert f"service/{NAME} 8080:80" in plain
    assert "label secret first conch.dev/api-keys=NAMESPACE" in plain
    assert "NOT ISOLATED" not in plain
    outside = notes(helm, tmp_path, service={"type": "LoadBalancer"})
    assert "get service conch-front-door" in outside
    assert "port-forward" not in outside
    assert "NOT ISOLATED" in notes(helm, tmp_path, isolate=False)
    assert "api-keys" not in notes(helm, tmp_path, enabled=False)
