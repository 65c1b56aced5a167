"""What people meet at the front door: pages whose samples run, descriptions, keys by the command.

HAProxy, agent and API server are real; the pod is a server of the protocol as strict as Triton.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from conch.api.model import ModelSpec
from e2e.page_samples import run_sample, samples_in
from tests.kit.client import Object
from tests.kit.control_plane import ROOT, Cluster
from tests.kit.front_door import HOME, Answer, FrontDoor, front_door
from tests.kit.kserve import ModelServer, Served
from tests.kit.proxy import wait_for

MODEL: Object = {
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
                "backend": "python",
                "maxBatchSize": 8,
                "source": {"uri": "pvc://models/digits"},
            }
        ],
    },
}
HTML = {"Accept": "text/html"}


@dataclass(frozen=True)
class Place:
    """A service of one pod behind the front door, and a key of its tenant."""

    door: FrontDoor
    namespace: str
    server: ModelServer
    key: str

    @property
    def root(self) -> str:
        return f"/{self.namespace}/digits"

    def page(self, *, key: str | None = None, root: str | None = None) -> Answer:
        return self.door.ask(f"{root or self.root}/", key=key or self.key, headers=HTML)


def conch(cluster: Cluster, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "conch.cli.plugin", *words],
        env={
            "PYTHONPATH": str(ROOT / "operator"),
            "PATH": "/usr/bin:/bin",
            "HOME": "/nonexistent",
            "KUBECONFIG": str(cluster.kubeconfig),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def door(cluster: Cluster) -> Iterator[FrontDoor]:
    with front_door(cluster) as found:
        yield found


@pytest.fixture
def place(door: FrontDoor, cluster: Cluster, namespace: str) -> Iterator[Place]:
    path = f"/apis/conch.dev/v1alpha1/namespaces/{namespace}/models/digits"
    door.client.apply(path, MODEL)
    door.service(namespace, "digits", pods=0)
    pod = door.pod(namespace, "digits", answers=False)
    spec = ModelSpec.model_validate(MODEL["spec"])
    served = Served(f"{namespace}/digits", "digits", spec.inputs, spec.outputs, 8)
    secret = f"pages-{namespace}"
    key = conch(cluster, "key", "create", secret, "-n", HOME, "--tenant", namespace)
    with ModelServer(served, pod=pod.address) as server:
        found = Place(door, namespace, server, key)
        wait_for(lambda: found.page().status == 200, "the page", timeout=20)
        metadata = f"{found.root}/v2/models/digits"
        wait_for(lambda: door.ask(metadata, key=key).status == 200, "the pod", timeout=20)
        yield found
    door.client.delete(f"/api/v1/namespaces/{HOME}/secrets/{secret}")


def test_the_samples_of_a_page_run_as_they_stand(place: Place, tmp_path: Path) -> None:
    programs = samples_in(place.page().body)
    assert len(programs) == 4
    for language, text in programs.items():
        assert place.door.url.removeprefix("http://") in text
        done = run_sample(language, text, folder=tmp_path, key=place.key)
        assert done.returncode == 0, f"{language}: {done.stderr}"
        assert "probabilities" in done.stdout, language
        wrong = run_sample(language, text, folder=tmp_path, key=f"{place.key}x")
        assert wrong.returncode != 0 or "no valid key" in wrong.stdout, language
    assert [a.protocol for a in place.server.asked] == ["http", "http", "http", "grpc"]
    assert {a.inputs["image"] for a in place.server.asked} == {(1, 64)}


def test_the_description_is_valid_and_its_example_is_answered(place: Place) -> None:
    told = place.door.ask(f"{place.root}/openapi.json", key=place.key)
    assert told.status == 200
    document = told.json
    validate(document)
    assert document["servers"] == [{"url": f"{place.door.url}{place.root}"}]
    (path,) = (p for p, methods in document["paths"].items() if "post" in methods)
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    answer = place.door.ask(f"{place.root}{path}", body["example"], key=place.key)
    assert answer.status == 200, answer.body
    assert answer.json["outputs"][0]["name"] == "probabilities"
    body["example"]["inputs"][0]["shape"] = [1, 63]
    wrong = place.door.ask(f"{place.root}{path}", body["example"], key=place.key)
    assert wrong.status == 400
    assert "unexpected shape for input 'image'" in wrong.json["error"]


def test_pages_are_for_those_who_may_ask(place: Place, cluster: Cluster) -> None:
    other = cluster.new_namespace()
    place.door.service(other, "theirs", pods=0)
    place.door.service(other, "everyones", pods=0, access="Open")
    everyones = f"/{other}/everyones"
    wait_for(lambda: place.page(root=everyones).status == 200, "the other page", timeout=20)
    assert place.page(root=f"/{other}/theirs").status == 404
    assert place.door.ask(f"{place.root}/", key=None).status == 401
    assert place.door.ask(f"{everyones}/", key=None).status == 200
    listed = place.door.ask("/", key=place.key).json
    assert [s["name"] for s in listed["services"] if s["namespace"] == other] == ["everyones"]
    (mine,) = (s for s in listed["services"] if s["namespace"] == place.namespace)
    assert mine["url"] == f"{place.door.url}{place.root}"
    shown = place.door.ask("/", key=place.key, headers=HTML)
    assert f"{place.door.url}{place.root}/" in shown.body
    assert "theirs" not in shown.body


def test_a_page_without_its_model_says_so(place: Place) -> None:
    place.door.client.delete(f"/apis/conch.dev/v1alpha1/namespaces/{place.namespace}/models/digits")
    wait_for(lambda: "There is no Model digits" in place.page().body, "it is told", timeout=20)
    assert len(samples_in(place.page().body)) == 4


def test_a_revoked_key_opens_nothing(place: Place, cluster: Cluster) -> None:
    assert place.page().status == 200
    spare = f"spare-{place.namespace}"
    key = conch(cluster, "key", "create", spare, "-n", HOME, "--tenant", place.namespace)
    wait_for(lambda: place.page(key=key).status == 200, "the new key", timeout=10)
    listed = json.loads(conch(cluster, "key", "list", "-n", HOME, "-o", "json"))
    assert {k["state"] for k in listed if k["name"] == spare} == {"good"}
    conch(cluster, "key", "revoke", spare, "-n", HOME, "-y")
    wait_for(lambda: place.page(key=key).status == 401, "it is refused", timeout=10)
    assert place.page().status == 200


def test_ask_sends_an_example(place: Place, cluster: Cluster) -> None:
    words = ("--url", place.door.url, "--key", place.key)
    told = conch(cluster, "ask", "digits", "-n", place.namespace, *words)
    assert told == f"probabilities FP32 [1, 10]: {', '.join(['0'] * 10)}"
    assert len(place.server.asked) == 1
