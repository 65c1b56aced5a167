"""JSON Schemas (2020-12) of a model's requests and answers in the KServe v2 protocol, over REST. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from conch.api.model import Datatype, Tensor
from conch.frontdoor.example import bytes_only
from conch.frontdoor.page import ServicePage

Schema = dict[str, Any]

REQUEST, ANSWER, ERROR, METADATA = "Request", "Answer", "Error", "Metadata"
_RANK = 17
"""Dimensions at most: those of an item, and the batch."""


def schemas(page: ServicePage) -> dict[str, Schema]:
    """Return all schemas by name: those of each tensor are called Input1, Output1 and so on."""
    inputs = {f"Input{n}": _tensor(page, t, sent=True) for n, t in enumerate(page.inputs, 1)}
    outputs = {f"Output{n}": _tensor(page, t, sent=False) for n, t in enumerate(page.outputs, 1)}
    if not page.described:
        inputs, outputs = {"Input1": _any_tensor()}, {"Output1": _any_tensor()}
    kinds = sorted({t.datatype for t in (*page.inputs, *page.outputs) if not bytes_only(t)})
    return {
        REQUEST: _request(list(inputs), known=page.described),
        ANSWER: _answer(list(outputs)),
        METADATA: _metadata(),
        ERROR: _object({"error": {"type": "string"}}, required=["error"]),
        **inputs,
        **outputs,
        **{_values_name(kind): _values(kind) for kind in kinds},
    }


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Mapping[str, Schema], *, required: Sequence[str] = ()) -> Schema:
    needs = {"required": [*required]} if required else {}
    return {"type": "object", "properties": dict(properties), **needs}


def _request(inputs: Sequence[str], *, known: bool) -> Schema:
    asked = _object(
        {"name": {"type": "string"}, "parameters": {"type": "object"}}, required=["name"]
    )
    return _object(
        {
            "id": {"type": "string", "description": "comes back in the answer"},
            "inputs": _inputs(inputs, known=known),
            "outputs": {
                "type": "array",
                "items": asked,
                "description": "outputs to answer with; all where it is left out",
            },
            "parameters": {"type": "object"},
        },
        required=["inputs"],
    )


def _inputs(names: Sequence[str], *, known: bool) -> Schema:
    """Return the list of inputs: where they are known, each of them once, in any order."""
    schema: Schema = {"type": "array", "items": _one_of(names), "minItems": len(names)}
    if not known:
        return schema
    each = {"allOf": [{"contains": ref(n)} for n in names]} if len(names) > 1 else {}
    return {**schema, "maxItems": len(names), **each}


def _one_of(names: Sequence[str]) -> Schema:
    return ref(names[0]) if len(names) == 1 else {"anyOf": [ref(n) for n in names]}


def _answer(outputs: Sequence[str]) -> Schema:
    return _object(
        {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": _one_of(outputs)},
        },
        required=["model_name", "outputs"],
    )


def _tensor(page: ServicePage, tensor: Tensor, *, sent: bool) -> Schema:
    head: dict[str, Schema] = {
        "name": {"const": tensor.name},
        "datatype": {"const": str(tensor.datatype)},
        "shape": _shape(page, tensor),
    }
    rest: dict[str, Schema] = {"parameters": _parameters(sent=sent)}
    if not bytes_only(tensor):
        rest["data"] = ref(_values_name(tensor.datatype))
    schema = _object({**head, **rest}, required=[*head, *(["parameters"] * bytes_only(tensor))])
    if not bytes_only(tensor):
        schema["anyOf"] = [{"required": ["data"]}, {"required": ["parameters"]}]
    return {"title": tensor.name, **schema}


def _parameters(*, sent: bool) -> Schema:
    whose = "the value" if sent else "the output"
    length = {
        "type": "integer",
        "minimum": 0,
        "description": f"bytes of {whose} behind the JSON, little-endian, where it has no data",
    }
    return _object({"binary_data_size": length})


def _shape(page: ServicePage, tensor: Tensor) -> Schema:
    sizes = list(_sizes(page, tensor))
    return {"type": "array", "prefixItems": sizes, "minItems": len(sizes), "maxItems": len(sizes)}


def _sizes(page: ServicePage, tensor: Tensor) -> Iterable[Schema]:
    if page.max_batch_size:
        told = "items in the batch"
        yield {"type": "integer", "minimum": 1, "maximum": page.max_batch_size, "description": told}
    for size in tensor.shape:
        yield {"const": size} if size >= 0 else {"type": "integer", "minimum": 0}


def _any_tensor() -> Schema:
    return _object(
        {
            "name": {"type": "string"},
            "datatype": {"enum": [str(d) for d in Datatype]},
            "shape": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0},
                "maxItems": _RANK,
            },
            "data": {"type": "array"},
            "parameters": {"type": "object"},
        },
        required=["name", "datatype", "shape"],
    )


def _values_name(datatype: Datatype) -> str:
    return f"Values{datatype}"


def _values(datatype: Datatype) -> Schema:
    """Return the schema of values: one list in row-major order, or lists in lists."""
    nested = ref(_values_name(datatype))
    return {"type": "array", "items": {"anyOf": [_element(datatype), nested]}}


def _element(datatype: Datatype) -> Schema:
    if datatype is Datatype.BOOL:
        return {"type": "boolean"}
    if datatype is Datatype.BYTES:
        return {"type": "string"}
    if datatype.startswith("FP"):
        return {"type": "number"}
    bits = int(datatype.rpartition("INT")[2])
    if datatype.startswith("U"):
        return {"type": "integer", "minimum": 0, "maximum": 2**bits - 1}
    return {"type": "integer", "minimum": -(2 ** (bits - 1)), "maximum": 2 ** (bits - 1) - 1}


def _metadata() -> Schema:
    tensor = _object(
        {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
        },
        required=["name", "datatype", "shape"],
    )
    return _object(
        {
            "name": {"type": "string"},
            "versions": {"type": "array", "items": {"type": "string"}},
            "platform": {"type": "string"},
            "inputs": {"type": "array", "items": tensor},
            "outputs": {"type": "array", "items": tensor},
        },
        required=["name", "inputs", "outputs"],
    )
