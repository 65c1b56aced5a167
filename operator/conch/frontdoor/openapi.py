"""The OpenAPI 3.1 document of one service, made from its Model. Pure."""

import json
from collections.abc import Sequence
from typing import Any

from conch.frontdoor import example, refusals
from conch.frontdoor.page import ServicePage
from conch.frontdoor.refusals import Refusal
from conch.frontdoor.schemas import ANSWER, ERROR, METADATA, REQUEST, ref, schemas

Object = dict[str, Any]

OPENAPI = "3.1.0"
_JSON = "application/json"
_BYTES = "application/octet-stream"
_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "a key of the caller's tenant"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_REFUSED: dict[str, tuple[str, tuple[Refusal, ...]]] = {
    "Unauthorized": ("No key, or one that is not known", (refusals.NO_KEY,)),
    "NotFound": (
        "No such service, model or path, or a service that the caller may not ask",
        (refusals.NOT_FOUND, refusals.NO_MODEL, refusals.NO_PATH),
    ),
    "TooLarge": ("The body is too large", (refusals.TOO_LARGE,)),
    "NoLength": ("The body's length is not said", (refusals.NO_LENGTH,)),
    "TooMany": (
        "Above a limit",
        (
            refusals.TOO_FAST,
            refusals.TOO_MANY,
            refusals.TENANT_TOO_FAST,
            refusals.TENANT_TOO_MANY,
        ),
    ),
    "Unavailable": ("No replica in time", (refusals.WAITED, refusals.TOO_MANY_WAIT)),
}
"""By name of the answer: what it means, and in which cases the front door gives it."""
_BROKEN = {
    "Ended": ("502", "The replica that took the request ended before it answered"),
    "TimedOut": ("504", "The model was silent for longer than the service's timeout"),
}
"""By name of the answer: its status, and what it means."""


def openapi(page: ServicePage) -> Object:
    """Return the document."""
    model = f"/v2/models/{page.model}"
    return {
        "openapi": OPENAPI,
        "info": _info(page),
        "servers": [{"url": page.url}],
        "security": [{name: []} for name in _KEYS] if page.keys else [],
        "paths": {
            f"{model}/infer": {"post": _infer(page)},
            model: {"get": _metadata(page)},
            f"{model}/ready": {"get": _ready(page, "modelReady", "Whether the model answers")},
            "/v2/health/ready": {"get": _ready(page, "serverReady", "Whether the server answers")},
        },
        "components": {
            "schemas": schemas(page),
            "responses": _responses(page),
            **({"securitySchemes": _KEYS} if page.keys else {}),
        },
    }


def _info(page: ServicePage) -> Object:
    told = [
        page.task and f"Task: {page.task}.",
        page.note,
        (
            "The KServe v2 protocol (Open Inference Protocol) over REST; the same over gRPC at "
            f"{page.grpc}, with the metadata conch-service: {page.title}."
        ),
    ]
    return {
        "title": page.title,
        "version": page.revision or "unknown",
        "description": " ".join(t for t in told if t),
    }


def _errors(page: ServicePage, *, body: bool = False) -> Object:
    """Return what else may be answered, by status; to a request with a ``body``, or without."""
    names = ["BadRequest", *_REFUSED, *_BROKEN]
    left_out = {
        *([] if page.keys else ["Unauthorized"]),
        *([] if body else ["TooLarge", "NoLength"]),
    }
    return {_status(n): {"$ref": f"#/components/responses/{n}"} for n in names if n not in left_out}


def _status(name: str) -> str:
    if name in _REFUSED:
        return str(_REFUSED[name][1][0].status)
    return _BROKEN[name][0] if name in _BROKEN else "400"


def _responses(page: ServicePage) -> Object:
    made = {name: _response(told, cases) for name, (told, cases) in _REFUSED.items()}
    bad = _error("Triton refuses the request, and says why", _json_error(_bad_request(page)))
    broken = {name: _error(told, {"schema": ref(ERROR)}) for name, (_, told) in _BROKEN.items()}
    return {**made, "BadRequest": bad, **broken}


def _response(told: str, cases: Sequence[Refusal]) -> Object:
    named = {f"case{n}": {"value": {"error": c.message}} for n, c in enumerate(cases, 1)}
    made = _error(told, {"schema": ref(ERROR), "examples": named})
    later = [c.retry_after for c in cases if c.retry_after is not None]
    if later:
        schema = {"type": "integer", "minimum": 1, "examples": sorted({*later})}
        told = "seconds after which to ask again"
        made["headers"] = {"Retry-After": {"description": told, "schema": schema}}
    return made


def _error(told: str, content: Object) -> Object:
    return {"description": told, "content": {_JSON: content}}


def _json_error(message: str) -> Object:
    return {"schema": ref(ERROR), "example": {"error": message}}


def _bad_request(page: ServicePage) -> str:
    if not page.described:
        return f"Request for unknown model: '{page.model}' is not found"
    first = page.inputs[0]
    shape = page.shape(first)
    *most, last = (1 if n < 0 else n for n in shape)
    wrong = [*most, last, 1] if shape[-1] < 0 else [*most, last + 1]
    right, got = (json.dumps([*s]).replace(" ", "") for s in (shape, wrong))
    return (
        f"[request id: <id_unknown>] unexpected shape for input '{first.name}' for model "
        f"'{page.model}'. Expected {right}, got {got}. "
    )


def _infer(page: ServicePage) -> Object:
    return {
        "operationId": "infer",
        "summary": "Ask the model",
        "parameters": [_header_length()],
        "requestBody": {"required": True, "content": _request(page)},
        "responses": {
            "200": {"description": "The model's answer", "content": _answer(page)},
            **_errors(page, body=True),
        },
    }


def _header_length() -> Object:
    return {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "schema": {"type": "integer", "minimum": 0},
        "description": f"length of the JSON that the values' bytes follow; for {_BYTES}",
    }


def _request(page: ServicePage) -> Object:
    """Return what may be sent: JSON unless an input can't be written so, or bytes behind JSON."""
    as_bytes = {
        "schema": {
            "description": "the JSON, then the bytes of the inputs that have a binary_data_size"
        }
    }
    if any(example.bytes_only(t) for t in page.inputs):
        return {_BYTES: as_bytes}
    as_json: Object = {"schema": ref(REQUEST)}
    if page.described and example.in_json(page):
        as_json["example"] = example.request(page)
    return {_JSON: as_json, _BYTES: as_bytes}


def _answer(page: ServicePage) -> Object:
    as_bytes = {"schema": {"description": "JSON, then the bytes of the outputs"}}
    if not example.answered_in_json(page):
        return {_BYTES: as_bytes}
    return {_JSON: {"schema": ref(ANSWER)}}


def _metadata(page: ServicePage) -> Object:
    content: Object = {"schema": ref(METADATA)}
    if page.described:
        content["example"] = {
            "name": page.model,
            "versions": ["1"],
            **{part: _tensors(page, part) for part in ("inputs", "outputs")},
        }
    return {
        "operationId": "metadata",
        "summary": "Inputs and outputs, as the server has them",
        "responses": {
            "200": {"description": "What the model takes and gives", "content": {_JSON: content}},
            **_errors(page),
        },
    }


def _tensors(page: ServicePage, part: str) -> list[Object]:
    return [
        {"name": t.name, "datatype": str(t.datatype), "shape": [*page.shape(t)]}
        for t in getattr(page, part)
    ]


def _ready(page: ServicePage, name: str, summary: str) -> Object:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": "It does"},
            **_errors(page),
        },
    }
