"""The manifests under examples/ are valid and fit each other."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from conch.api.base import parse_quantity
from conch.api.crd import BY_KIND
from conch.api.names import API_VERSION

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "examples").glob("*.yaml"))
DOCUMENTS = [(f.name, d) for f in FILES for d in yaml.safe_load_all(f.read_text())]
OURS = [(file, d) for file, d in DOCUMENTS if d["apiVersion"] == API_VERSION]


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [d for _, d in DOCUMENTS if d["kind"] in kinds]


def test_there_are_examples_of_every_kind() -> None:
    assert {d["kind"] for _, d in OURS} == set(BY_KIND)


@pytest.mark.parametrize(
    "document", [d for _, d in OURS], ids=[f"{f}-{d['kind']}" for f, d in OURS]
)
def test_specs_are_valid(document: dict[str, Any]) -> None:
    kind = BY_KIND[document["kind"]]
    kind.spec.model_validate(document["spec"])
    assert ("namespace" in document["metadata"]) == kind.namespaced


def test_services_name_models_that_are_there_and_good_enough() -> None:
    models = {
        (d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]): d
        for d in of_kind("Model", "ClusterModel")
    }
    for service in of_kind("ModelService"):
        reference = service["spec"]["model"]
        kind = reference.get("kind", "Model")
        namespace = service["metadata"]["namespace"] if kind == "Model" else None
        model = models[(kind, namespace, reference["name"])]
        least = service["spec"].get("objective", {}).get("minAccuracy", 0)
        assert max(v["accuracy"]["value"] for v in model["spec"]["variants"]) >= least


def test_services_name_accelerators_of_the_pools() -> None:
    there = {d["spec"]["accelerator"] for d in of_kind("GPUPool")}
    for service in of_kind("ModelService"):
        assert set(service["spec"].get("placement", {}).get("accelerators", [])) <= there


def test_speed_of_the_pools_is_their_share_of_a_cpu() -> None:
    pools = {d["metadata"]["name"]: d["spec"] for d in of_kind("GPUPool")}
    shares = {n: parse_quantity(p["perGPU"]["cpu"]) for n, p in pools.items()}
    speeds = {n: p["relativeSpeed"] for n, p in pools.items()}
    assert shares["a100"] / shares["t4"] == pytest.approx(speeds["a100"] / speeds["t4"])


def test_every_namespace_is_restricted_and_comes_before_what_is_in_it() -> None:
    for file in FILES:
        made: set[str] = set()
        for name, document in DOCUMENTS:
            if name != file.name:
                continue
            if document["kind"] == "Namespace":
                labels = document["metadata"]["labels"]
                assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
                made.add(document["metadata"]["name"])
            elif document["kind"] in ("Model", "ModelService"):
                assert document["metadata"]["namespace"] in made


def test_storage_is_where_digits_reads() -> None:
    (claim,) = of_kind("PersistentVolumeClaim")
    (volume,) = of_kind("PersistentVolume")
    (digits,) = of_kind("Model")[:1]
    uri = digits["spec"]["variants"][0]["source"]["uri"]
    assert uri.startswith(f"pvc://{claim['metadata']['name']}/")
    assert claim["metadata"]["namespace"] == digits["metadata"]["namespace"]
    bound = volume["spec"]["claimRef"]
    assert (bound["namespace"], bound["name"]) == (
        claim["metadata"]["namespace"],
        claim["metadata"]["name"],
    )
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
