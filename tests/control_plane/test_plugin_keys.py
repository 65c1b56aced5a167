"""``kubectl conch key`` as a user runs it, on a real API server."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from conch.api.names import API_VERSION, LABEL_API_KEYS
from conch.frontdoor.lookups import Tenants, digest, keys_of
from tests.kit.client import Object
from tests.kit.control_plane import ROOT, Cluster

TENANTS = f"/apis/{API_VERSION}/tenants"
FRESH = "2999-01-01T00:00:00.000000Z"


@dataclass(frozen=True)
class Keys:
    """A cluster whose front door is in the namespace ``home``."""

    cluster: Cluster
    home: str
    team: str
    """A namespace of the Tenant of the same name and "-team"."""

    @property
    def tenant(self) -> str:
        return f"{self.team}-team"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "conch.cli.plugin", "key", *words],
            env={
                "PYTHONPATH": str(ROOT / "operator"),
                "PATH": "/usr/bin:/bin",
                "HOME": "/nonexistent",
                "KUBECONFIG": str(self.cluster.kubeconfig),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def ok(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def refused(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        assert done.stdout.strip() == ""
        return done.stderr

    def secrets(self, namespace: str) -> list[Object]:
        return self.cluster.client.items(f"/api/v1/namespaces/{namespace}/secrets")

    def taken(self) -> dict[str, str]:
        """Return the tenant of each key, by digest, as the front door reads the Secrets."""
        found = [*self.secrets(self.home), *self.secrets(self.team)]
        tenants = Tenants({self.team: self.tenant}, {self.tenant: None})  # type: ignore[dict-item]
        return keys_of(found, tenants, self.home)

    def rows(self, *words: str) -> list[list[str]]:
        return [line.split() for line in self.ok("list", *words).splitlines()]


@pytest.fixture
def keys(cluster: Cluster) -> Iterator[Keys]:
    """An installation without an operator: all that is known of it is its lease."""
    found = Keys(cluster, cluster.new_namespace(), cluster.new_namespace())
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{found.home}/leases/conch-operator"
    spec = {"holderIdentity": "conch-1", "renewTime": FRESH}
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec}
    cluster.client.apply(lease, {**body, "metadata": {"name": "conch-operator"}})
    tenant = {"apiVersion": API_VERSION, "kind": "Tenant", "metadata": {"name": found.tenant}}
    path = f"{TENANTS}/{found.tenant}"
    cluster.client.apply(path, {**tenant, "spec": {"namespaces": [found.team]}})
    yield found
    cluster.client.delete(path)
    cluster.client.delete(lease)


def test_a_key_is_made_and_printed_once(keys: Keys) -> None:
    done = keys.run("create", "laptop", "--tenant", keys.tenant)
    assert done.returncode == 0, done.stderr
    key = done.stdout.removesuffix("\n")
    assert key.startswith("conch_")
    assert "not shown again" in done.stderr
    assert key not in done.stderr
    (secret,) = keys.secrets(keys.home)
    assert secret["metadata"]["name"] == "laptop"
    assert secret["metadata"]["labels"] == {LABEL_API_KEYS: keys.tenant}
    assert [base64.b64decode(v).decode() for v in secret["data"].values()] == [key]
    assert keys.taken() == {digest(key): keys.tenant}
    listed = keys.ok("list")
    assert key not in listed
    assert keys.rows()[1][:3] == [keys.home, "laptop", keys.tenant]
    assert keys.rows()[1][4] == "good"


def test_a_key_is_replaced_without_a_gap(keys: Keys) -> None:
    old = keys.ok("create", "laptop", "--tenant", keys.tenant)
    assert "--add" in keys.refused("create", "laptop", "--tenant", keys.tenant)
    new = keys.ok("create", "laptop", "--add")
    assert keys.taken() == {digest(k): keys.tenant for k in (old, new)}
    name = f"key-{digest(old)[:8]}"
    assert name in keys.ok("list")
    assert "revoked" in keys.ok("revoke", "laptop", "--key", name, "--yes")
    assert keys.taken() == {digest(new): keys.tenant}
    assert name in keys.refused("revoke", "laptop", "--key", name, "--yes")
    keys.ok("revoke", "laptop", "--key", f"key-{digest(new)[:8]}", "--yes")
    assert keys.secrets(keys.home) == []


def test_all_keys_of_a_secret_are_revoked(keys: Keys) -> None:
    keys.ok("create", "laptop", "--tenant", keys.tenant)
    keys.ok("create", "laptop", "--add", "--tenant", keys.tenant)
    assert len(keys.taken()) == 2
    keys.ok("revoke", "laptop", "-y")
    assert keys.taken() == {}
    assert "there is no Secret" in keys.refused("revoke", "laptop", "-y")


def test_nothing_is_revoked_unasked(keys: Keys) -> None:
    keys.ok("create", "laptop", "--tenant", keys.tenant)
    assert "Revoke all keys of Secret laptop?" in keys.refused("revoke", "laptop")
    assert len(keys.taken()) == 1


def test_a_secret_of_another_kind_is_left_alone(keys: Keys) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "certificate"},
        "stringData": {"tls.key": "k" * 40},
    }
    path = f"/api/v1/namespaces/{keys.home}/secrets/certificate"
    keys.cluster.client.apply(path, body)
    for words in (
        ("revoke", "certificate", "-y"),
        ("revoke", "certificate", "--key", "tls.key", "-y"),
        ("create", "certificate", "--add"),
    ):
        assert "holds no keys" in keys.refused(*words)
    assert set(keys.cluster.client.get(path)["data"]) == {"tls.key"}
    assert "there are no keys here" in keys.run("list").stderr


def test_keys_beside_the_services_of_a_tenant(keys: Keys) -> None:
    key = keys.ok("create", "laptop", "-n", keys.team)
    assert keys.taken() == {digest(key): keys.tenant}
    assert "no keys here" in keys.run("list").stderr
    assert keys.rows("-n", keys.team)[1][2] == keys.tenant
    (listed,) = (
        k for k in json.loads(keys.ok("list", "-A", "-o", "json")) if k["namespace"] == keys.team
    )
    assert (listed["tenant"], listed["state"]) == (keys.tenant, "good")
    assert "are of its tenant" in keys.refused(
        "create", "x", "-n", keys.team, "--tenant", "default"
    )
    keys.ok("revoke", "laptop", "-n", keys.team, "-y")
    assert keys.taken() == {}


def test_a_key_of_nobody_is_not_made(keys: Keys) -> None:
    assert "--tenant NAME" in keys.refused("create", "laptop")
    belongs = keys.refused("create", "laptop", "--tenant", keys.team)
    assert f"write --tenant {keys.tenant}" in belongs
    assert "no Tenant and no namespace 'sihgt'" in keys.refused("create", "x", "--tenant", "sihgt")
    assert "no namespace 'nowhere'" in keys.refused("create", "x", "-n", "nowhere")
    assert keys.secrets(keys.home) == []
    own = keys.ok("create", "own", "--tenant", "default")
    assert keys.taken() == {digest(own): "namespace/default"}


def test_where_the_front_door_is_not_known(cluster: Cluster) -> None:
    alone = Keys(cluster, "default", cluster.new_namespace())
    # Other tests leave theirs behind.
    leases = "/apis/coordination.k8s.io/v1/{}leases"
    for lease in cluster.client.items(leases.format("")):
        where = leases.format(f"namespaces/{lease['metadata']['namespace']}/")
        cluster.client.delete(f"{where}/{lease['metadata']['name']}")
    assert "name it with -n" in alone.refused("create", "laptop", "--tenant", "default")
    key = alone.ok("create", "laptop", "-n", alone.team, "--tenant", "default")
    (secret,) = alone.secrets(alone.team)
    assert secret["metadata"]["labels"] == {LABEL_API_KEYS: "default"}
    assert key.startswith("conch_")
