"""The OpenAPI document of a service: valid, true to its Model, and valid examples in it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from conch.frontdoor import refusals
from conch.frontdoor.openapi import openapi
from conch.frontdoor.page import ServicePage, page_of
from tests.unit.frontdoor.callers import (
    ADDRESSES,
    IMAGE,
    PROBABILITIES,
    Object,
    model,
    page,
    service,
    tensors,
)

ASK = "/v2/models/digits/infer"
MASK = {"name": "mask", "datatype": "BOOL", "shape": [2, -1]}
HALF = {"name": "half", "datatype": "FP16", "shape": [4]}


def checked(of: ServicePage) -> Object:
    """Return the document, which is valid, and is JSON."""
    document: Object = json.loads(json.dumps(openapi(of)))
    validate(document)
    return document


def takes(document: Object, schema: str, value: Any) -> bool:
    """Tell whether a value suits a schema of the document."""
    root = {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    return bool(OAS31Validator(root).is_valid(value))


def request(*shape: int, data: Any = None, name: str = "image", datatype: str = "FP32") -> Object:
    given = [0.5] * 64 if data is None else data
    return {
        "inputs": [{"name": name, "datatype": datatype, "shape": [*shape], "data": given}],
    }


def test_paths_are_those_of_the_model() -> None:
    document = checked(page())
    assert document["servers"] == [
        {"url": "http://conch-front-door.conch-system.svc/vision/answers"}
    ]
    assert {(p, m) for p, methods in document["paths"].items() for m in methods} == {
        (ASK, "post"),
        ("/v2/models/digits", "get"),
        ("/v2/models/digits/ready", "get"),
        ("/v2/health/ready", "get"),
    }


def test_requests_are_as_the_model_wants_them() -> None:
    document = checked(page(batch=8))
    assert takes(document, "Request", request(1, 64))
    assert takes(document, "Request", request(2, 64, data=[[0.5] * 64, [1] * 64]))
    assert takes(document, "Request", {**request(8, 64), "id": "7", "outputs": [{"name": "x"}]})
    wrongs: list[Object] = [
        request(9, 64),
        request(0, 64),
        request(64),
        request(1, 65),
        request(1, 64, 1),
        request(1, 64, name="picture"),
        request(1, 64, datatype="FP64"),
        request(1, 64, data=["a"]),
        request(1, 64, data=0.5),
        {"inputs": []},
        {},
    ]
    for wrong in wrongs:
        assert not takes(document, "Request", wrong), wrong
    without: Any = request(1, 64)
    del without["inputs"][0]["data"]
    assert not takes(document, "Request", without)
    without["inputs"][0]["parameters"] = {"binary_data_size": 256}
    assert takes(document, "Request", without)


def test_several_inputs_come_each_once_in_any_order() -> None:
    document = checked(page([IMAGE, MASK], batch=0))
    image, mask = (
        request(64)["inputs"][0],
        request(2, 5, name="mask", datatype="BOOL", data=[True] * 10)["inputs"][0],
    )
    assert takes(document, "Request", {"inputs": [image, mask]})
    assert takes(document, "Request", {"inputs": [mask, image]})
    for others in ([image], [image, image], [image, mask, mask], [mask, mask]):
        assert not takes(document, "Request", {"inputs": others})


@pytest.mark.parametrize(
    ("datatype", "good", "bad"),
    [
        ("UINT8", [0, 255], [-1, 256, 0.5, True, "1"]),
        ("INT16", [-32768, 32767], [-32769, 32768]),
        ("INT64", [2**63 - 1], [2**63]),
        ("BOOL", [True, False], [0, "true"]),
        ("BYTES", ["text", ""], [1, True]),
        ("FP64", [0.5, 1, -1e300], ["0.5", True]),
    ],
)
def test_elements(datatype: str, good: list[Any], bad: list[Any]) -> None:
    document = checked(page([{"name": "x", "datatype": datatype, "shape": [-1]}], batch=0))
    for value, right in [*((g, True) for g in good), *((b, False) for b in bad)]:
        one = request(1, name="x", datatype=datatype, data=[value])
        assert takes(document, "Request", one) == right, value


def test_answers_are_described() -> None:
    document = checked(page())
    output = {"name": "probabilities", "datatype": "FP32", "shape": [1, 10], "data": [0.1] * 10}
    answer = {"model_name": "digits", "model_version": "1", "outputs": [output]}
    assert takes(document, "Answer", answer)
    assert not takes(document, "Answer", {**answer, "outputs": [{**output, "shape": [1, 11]}]})


def test_what_json_cannot_hold_is_sent_as_bytes() -> None:
    taken = checked(page([HALF]))["paths"][ASK]["post"]
    assert [*taken["requestBody"]["content"]] == ["application/octet-stream"]
    assert [*taken["responses"]["200"]["content"]] == ["application/json"]
    given_back = checked(page([IMAGE], [HALF]))["paths"][ASK]["post"]
    assert [*given_back["responses"]["200"]["content"]] == ["application/octet-stream"]
    assert [p["name"] for p in taken["parameters"]] == ["Inference-Header-Content-Length"]


def test_a_large_example_is_left_out() -> None:
    large = {"name": "image", "datatype": "FP32", "shape": [3, 224, 224]}
    document = checked(page([large]))
    assert (
        "example"
        not in document["paths"][ASK]["post"]["requestBody"]["content"]["application/json"]
    )
    assert len(json.dumps(document)) < 20_000


def test_keys() -> None:
    document = checked(page())
    assert document["security"] == [{"bearer": []}, {"apiKey": []}]
    schemes = document["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert schemes["apiKey"]["name"] == "X-API-Key"
    assert "401" in document["paths"][ASK]["post"]["responses"]


def test_an_open_service_has_no_keys() -> None:
    document = checked(page(access="Open"))
    assert document["security"] == []
    assert "securitySchemes" not in document["components"]
    assert all("401" not in o["responses"] for p in document["paths"].values() for o in p.values())


def test_every_refusal_of_the_front_door_is_there() -> None:
    """Those that callers of a service's protocol may meet, with the words that it uses."""
    document = checked(page())
    asked = document["paths"][ASK]["post"]["responses"]
    names = {s: r["$ref"].rpartition("/")[2] for s, r in asked.items() if s != "200"}
    assert set(names) == {"400", "401", "404", "411", "413", "429", "502", "503", "504"}
    known = {n: r for n, r in vars(refusals).items() if isinstance(r, refusals.Refusal)}
    for refusal in (r for n, r in known.items() if n not in ("NOT_YET", "NO_PAGES")):
        answer = document["components"]["responses"][names[str(refusal.status)]]
        examples = answer["content"]["application/json"]["examples"].values()
        assert {"error": refusal.message} in [e["value"] for e in examples]
        assert ("Retry-After" in answer.get("headers", {})) == (refusal.retry_after is not None)
    for one in document["paths"].values():
        for operation in one.values():
            assert {"401", "404", "429", "503"} <= set(operation["responses"])


def test_tritons_refusal_is_told_as_triton_says_it() -> None:
    def told(of: ServicePage) -> str:
        bad = checked(of)["components"]["responses"]["BadRequest"]
        return str(bad["content"]["application/json"]["example"]["error"])

    start = "unexpected shape for input 'image' for model 'digits'. Expected"
    assert f"{start} [-1,64], got [1,65]" in told(page())
    free = {**IMAGE, "shape": [3, -1]}
    assert f"{start} [3,-1], got [3,1,1]" in told(page([free], batch=0))


def test_an_unknown_model_still_has_a_document() -> None:
    document = checked(page_of(service(), None, ADDRESSES))
    assert "There is no Model digits" in document["info"]["description"]
    assert takes(document, "Request", request(1, 64))
    assert not takes(document, "Request", {"inputs": []})
    checked(page_of(service(), model(inputs=[]), ADDRESSES))


def test_metadata_are_as_triton_has_them() -> None:
    told = checked(page())["paths"]["/v2/models/digits"]["get"]["responses"]["200"]
    example = told["content"]["application/json"]["example"]
    assert example["inputs"] == [{**IMAGE, "shape": [-1, 64]}]
    assert example["outputs"] == [{**PROBABILITIES, "shape": [-1, 10]}]
    assert takes(checked(page()), "Metadata", example)


@settings(max_examples=15)
@given(tensors, tensors)
def test_the_document_of_any_model_is_valid_and_so_is_its_example(
    inputs: list[Object], outputs: list[Object]
) -> None:
    for batch in (0, 4):
        document = checked(page(inputs, outputs, batch=batch))
        content = document["paths"][ASK]["post"]["requestBody"]["content"]
        sent = content.get("application/json", {}).get("example")
        assert (sent is None) == any(t["datatype"] in ("FP16", "BF16") for t in inputs)
        if sent is not None:
            assert takes(document, "Request", sent), sent
