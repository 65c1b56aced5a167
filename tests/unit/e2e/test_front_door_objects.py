import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml

from conch.api.names import LABEL_API_KEYS
from e2e import front_door, install
from e2e.cluster.cluster import Cluster
from e2e.cluster.settings import ClusterError
from e2e.images.oci import Image
from tests.kit.chart import CHART, call

if TYPE_CHECKING:
    from e2e.kubectl import Tools

CLUSTER = Cluster(Path("kubeconfig"), "http://10.0.0.1:9090", "10.0.0.1", Path("bin"), local=False)
IMAGES = (
    Image("docker.io/library/haproxy:2.6", Path("haproxy.tar")),
    Image("ghcr.io/conch-dev/conch:0.1.0-abc", Path("conch.tar")),
)


@dataclass
class Recorded:
    """Stands for kubectl: has one Service, and remembers what it was told."""

    service: dict[str, Any] | None = None
    told: list[Any] = field(default_factory=list)

    def get(self, *_: str) -> dict[str, Any] | None:
        return self.service

    def apply(self, *objects: dict[str, Any]) -> None:
        self.told += objects

    def kubectl(self, *words: str) -> None:
        self.told.append(words)


def test_services_are_asked_below_the_front_doors_address() -> None:
    tools = cast("Tools", Recorded({"spec": {"clusterIP": "10.96.1.2"}}))
    assert front_door.url_of(tools, "vision", "digits") == "http://10.96.1.2:80/vision/digits"
    assert front_door.grpc_of(tools) == "10.96.1.2:8001"
    assert front_door.host_of("vision", "digits") == "digits.vision.models.test"
    with pytest.raises(LookupError, match="conch-system/conch-front-door"):
        front_door.address(cast("Tools", Recorded()))


def test_a_key_is_its_tenants_and_revoked_whatever_happens() -> None:
    tools = Recorded()

    def fail_with_a_key() -> None:
        with front_door.key_of(cast("Tools", tools), "vision") as key:
            assert len(key) >= 16
            assert list(tools.told[0]["stringData"].values()) == [key]
            raise ClusterError

    with pytest.raises(ClusterError):
        fail_with_a_key()
    secret, revoked = tools.told
    meta = secret["metadata"]
    assert meta["labels"] == {LABEL_API_KEYS: "vision"}
    assert meta["namespace"] == install.NAMESPACE
    wanted = ("delete", "secret", meta["name"], "-n", install.NAMESPACE, "--ignore-not-found")
    assert revoked == wanted


def test_the_chart_takes_the_values_of_a_cluster(helm: Path, tmp_path: Path) -> None:
    pace = {"tickSeconds": 2.0, "relistSeconds": 60.0, "usageHalfLifeSeconds": 60.0}
    given = install.chart_values(CLUSTER, tmp_path, IMAGES, pace=pace)
    values = tmp_path / "values.yaml"
    values.write_text(json.dumps(given))
    done = call(helm, "template", "conch", str(CHART), "-f", str(values))
    assert done.returncode == 0, done.stderr
    objects = [o for o in yaml.safe_load_all(done.stdout) if o]
    (door,) = [o for o in objects if o["kind"] == "Deployment" and "front" in o["metadata"]["name"]]
    assert door["metadata"]["name"] == front_door.NAME
    spec = door["spec"]["template"]["spec"]
    # All nodes are GPU nodes.
    assert "nvidia.com/gpu" in {t["key"] for t in spec["tolerations"]}
    found = {c["name"]: c for c in [*spec["initContainers"], *spec["containers"]]}
    assert found["agent"]["image"] == IMAGES[1].name
    assert found["haproxy"]["image"] == IMAGES[0].name
    # Others run on the same two cores; what is throttled would be slow for everyone who asks.
    for container in found.values():
        assert container["resources"]["requests"]["cpu"] == "50m"
        assert "cpu" not in container["resources"]["limits"]
    assert f"--domain={install.DOMAIN}" in found["agent"]["args"]
