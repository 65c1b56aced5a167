"""The generated CustomResourceDefinitions are structural and say how kubectl shows the kinds."""

from collections.abc import Iterator
from typing import Any

import pytest

from conch.api.crd import BY_KIND, KINDS, Kind, crd, structural

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.kind)


def nodes(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, with where it stands."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from nodes(schema[name], f"{path}.{name}")


def version(kind: Kind) -> dict[str, Any]:
    (only,) = crd(kind)["spec"]["versions"]
    assert isinstance(only, dict)
    return only


def schema(kind: Kind) -> dict[str, Any]:
    found = version(kind)["schema"]["openAPIV3Schema"]
    assert isinstance(found, dict)
    return found


@each_kind
def test_schemas_are_structural(kind: Kind) -> None:
    for path, node in nodes(schema(kind)):
        assert "type" in node, path
        assert not {"$ref", "$defs", "anyOf", "allOf", "oneOf", "const", "title"} & set(node), path
        assert not {"properties", "additionalProperties"} <= set(node), path


@each_kind
def test_no_default_holds_null(kind: Kind) -> None:
    for path, node in nodes(schema(kind)):
        assert "default" not in node or "None" not in repr(node["default"]), path


@each_kind
def test_lists_are_bounded_so_that_rules_have_a_known_cost(kind: Kind) -> None:
    for path, node in nodes(schema(kind)):
        assert node["type"] != "array" or "maxItems" in node, path


@each_kind
def test_every_rule_says_what_to_do(kind: Kind) -> None:
    rules = [r for _, n in nodes(schema(kind)) for r in n.get("x-kubernetes-validations", ())]
    assert rules
    assert all(r["message"] for r in rules)


@each_kind
def test_kubectl_shows_the_kind(kind: Kind) -> None:
    names = crd(kind)["spec"]["names"]
    assert names["categories"] == ["conch"]
    assert names["shortNames"]
    columns = [c["name"] for c in version(kind)["additionalPrinterColumns"]]
    assert columns[-1] == "Age"
    assert len(set(columns)) == len(columns)


def test_only_model_services_scale() -> None:
    scaled = [k.kind for k in KINDS if "scale" in version(k)["subresources"]]
    assert scaled == ["ModelService"]
    assert version(BY_KIND["ModelService"])["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }


def test_optional_fields_lose_their_null_and_keep_their_rules() -> None:
    p99 = structural(BY_KIND["ModelService"].spec)["properties"]["objective"]["properties"]["p99"]
    assert p99["type"] == "string"
    assert "default" not in p99
    assert p99["x-kubernetes-validations"]


def test_exclusive_bounds_are_spelt_as_openapi_3_0_does() -> None:
    scaling = structural(BY_KIND["ModelService"].spec)["properties"]["scaling"]["properties"]
    target = scaling["targetUtilization"]
    assert (target["minimum"], target["exclusiveMinimum"], target["maximum"]) == (0, True, 1)


def test_opaque_parts_pass_through() -> None:
    template = structural(BY_KIND["ModelService"].spec)["properties"]["podTemplate"]
    toleration = template["properties"]["tolerations"]["items"]
    assert toleration == {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
