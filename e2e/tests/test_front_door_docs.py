"""What callers read at the front door holds before a real Triton: pages, samples, descriptions, keys."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from openapi_spec_validator import validate

from e2e.bench.front_door.door import Door, front_door
from e2e.install import NAMESPACE, Stage
from e2e.kubectl import wait_for
from e2e.models import DIGITS
from e2e.page_samples import run_sample, samples_in
from e2e.scratch import Object, Scratch, adding, python_model, sample_objects, scratch, service

pytestmark = pytest.mark.cluster

KNOWN_S = 30.0
"""Until every replica of the front door knows what is new."""
ASKED = 6
"""Requests over connections of their own, which reach both replicas."""
SERVICES = {"readings": "probabilities", "half": "sum"}
"""Services here, and an output of each."""


@dataclass(frozen=True)
class Desk:
    """Two services behind the front door: one of them can't be asked in JSON."""

    place: Scratch
    door: Door

    @property
    def root(self) -> str:
        return f"http://{self.door.address}"

    def url(self, name: str) -> str:
        return f"{self.root}/{self.place.namespace}/{name}"

    def get(self, url: str, *, key: str | None = None, kind: str = "*/*") -> requests.Response:
        headers = {"Authorization": f"Bearer {key or self.door.key}", "Accept": kind}
        return requests.get(url, headers=headers, timeout=30)

    def all_say(self, status: int, url: str, *, key: str | None = None) -> bool:
        """Tell whether all replicas of the front door answer so."""
        return all(self.get(url, key=key).status_code == status for _ in range(ASKED))

    def await_known(self, url: str, *, key: str | None = None, status: int = 200) -> None:
        """Wait until all replicas of the front door answer so."""
        what = f"{status} of {url}"
        wait_for(what, lambda: self.all_say(status, url, key=key), timeout=KNOWN_S)

    def page(self, name: str) -> str:
        """Return the page of a service."""
        answer = self.get(f"{self.url(name)}/", kind="text/html")
        assert answer.ok, answer.text
        return answer.text

    def conch(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``kubectl conch`` as a user of this cluster."""
        return subprocess.run(
            [sys.executable, "-m", "conch.cli.plugin", *words],
            env={**os.environ, "KUBECONFIG": str(self.place.stage.tools.kubeconfig)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def conch_ok(self, *words: str) -> str:
        """Run it and return what it prints; it must succeed."""
        done = self.conch(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def desk(stage: Stage) -> Iterator[Desk]:
    """The digits of the examples, and a model of half floats."""
    with scratch(stage, "e2e-front-door-docs") as place, front_door(place) as door:
        place.use_samples()
        place.apply(*sample_objects(stage, DIGITS, name="readings"))
        config_map, half = python_model("half", adding(1))
        for tensor in (*half["spec"]["inputs"], *half["spec"]["outputs"]):
            tensor["datatype"] = "FP16"
        place.apply(config_map, half, service("half", pools=("a100", "t4")))
        found = Desk(place, door)
        for name in SERVICES:
            place.await_ready(name)
            model = "digits" if name == "readings" else name
            found.await_known(f"{found.url(name)}/v2/models/{model}")
        yield found


@pytest.mark.parametrize(("name", "output"), SERVICES.items())
def test_samples_run_as_they_stand(desk: Desk, name: str, output: str, tmp_path: Path) -> None:
    programs = samples_in(desk.page(name))
    assert set(programs) == {"curl", "python-urllib", "python-http", "python-grpc"}
    for language, text in programs.items():
        assert desk.door.address in text
        done = run_sample(language, text, folder=tmp_path, key=desk.door.key)
        assert done.returncode == 0, f"{language}: {done.stderr}"
        said = done.stdout
        if language == "curl" and name == "half":
            said = (tmp_path / "answer.bin").read_bytes().decode(errors="replace")
        assert output in said, f"{language}: {said}"
        assert "error" not in said, f"{language}: {said}"


@pytest.mark.parametrize("name", SERVICES)
def test_descriptions_are_valid_and_true_to_the_server(desk: Desk, name: str) -> None:
    document: Object = desk.get(f"{desk.url(name)}/openapi.json").json()
    validate(document)
    (server,) = document["servers"]
    assert server["url"] == desk.url(name)
    for path, methods in document["paths"].items():
        if "get" in methods:
            assert desk.get(f"{server['url']}{path}").status_code == 200, path
    (path,) = (p for p, methods in document["paths"].items() if p.endswith("/infer"))
    told = document["paths"][path.removesuffix("/infer")]["get"]["responses"]["200"]["content"]
    said = desk.get(f"{server['url']}{path.removesuffix('/infer')}").json()
    for part in ("inputs", "outputs"):
        assert said[part] == told["application/json"]["example"][part]


def test_the_examples_of_a_description_are_answered_as_it_says(desk: Desk) -> None:
    document: Object = desk.get(f"{desk.url('readings')}/openapi.json").json()
    (path,) = (p for p in document["paths"] if p.endswith("/infer"))
    example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"][
        "example"
    ]

    def ask(body: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {desk.door.key}"}
        return requests.post(
            f"{desk.url('readings')}{path}", json=body, headers=headers, timeout=30
        )

    answer = ask(example)
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    assert (output["name"], output["shape"]) == ("probabilities", [1, 10])
    (given,) = example["inputs"]
    wrong = ask({"inputs": [{**given, "shape": [1, 63], "data": given["data"][1:]}]})
    assert wrong.status_code == 400
    # As the description has it, but for the numbers.
    bad = document["components"]["responses"]["BadRequest"]["content"]["application/json"]
    told = bad["example"]["error"].partition("Expected")[0].partition("] ")[2]
    assert told in wrong.json()["error"]


def test_the_list_is_of_what_one_may_ask(desk: Desk) -> None:
    listed = desk.get(desk.root).json()["services"]
    mine = {s["name"] for s in listed if s["namespace"] == desk.place.namespace}
    assert mine == set(SERVICES)
    shown = desk.get(desk.root, kind="text/html").text
    assert all(f"{desk.url(name)}/" in shown for name in SERVICES)


def test_a_key_is_made_used_and_revoked(desk: Desk) -> None:
    name, tenant = "e2e-front-door-docs-spare", desk.place.namespace
    url = f"{desk.url('readings')}/v2/models/digits"
    key = desk.conch_ok("key", "create", name, "--tenant", tenant)
    try:
        desk.await_known(url, key=key)
        assert f"{NAMESPACE}  {name}" in desk.conch_ok("key", "list")
        words = ("ask", "readings", "-n", tenant, "--url", desk.root, "--key", key)
        assert desk.conch_ok(*words).startswith("probabilities FP32 [1, 10]: ")
    finally:
        desk.conch_ok("key", "revoke", name, "--yes")
    desk.await_known(url, key=key, status=401)
    refused = desk.conch("ask", "readings", "-n", tenant, "--url", desk.root, "--key", key)
    assert refused.returncode == 1
    assert "no valid key" in refused.stderr
    assert desk.all_say(200, url)
