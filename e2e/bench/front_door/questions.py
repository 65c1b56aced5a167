"""What is asked of a model that adds a number, as bytes, and which answers are right."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from e2e.bench.front_door.flow import Flow, Protocol
from e2e.load import request_body

_REMEMBERED = 16
"""Right answers that are known again byte for byte; those are read only once."""


@dataclass
class Question:
    """One request, made once, and what its answer must hold."""

    asks: bytes
    """The whole request over HTTP; a message of gRPC."""
    model: str
    wants: Sequence[float]
    protocol: Protocol
    _right: set[bytes] = field(default_factory=set)

    def is_right(self, answer: bytes) -> bool:
        """Tell whether a body, or a message, is what the model must say."""
        if answer in self._right:
            return True
        right = self._says(answer) == (self.model, list(self.wants))
        if right and len(self._right) < _REMEMBERED:
            self._right.add(answer)
        return right

    def _says(self, answer: bytes) -> tuple[str, list[float]] | None:
        return _told_json(answer) if self.protocol == "http" else _told_message(self, answer)


def _told_json(answer: bytes) -> tuple[str, list[float]] | None:
    try:
        body = json.loads(answer)
        (output,) = body["outputs"]
        return str(body["model_name"]), [float(x) for x in output["data"]]
    except (ValueError, LookupError, TypeError):
        return None


def _told_message(question: Question, answer: bytes) -> tuple[str, list[float]] | None:
    try:
        if question.protocol == "stream":
            told = service_pb2.ModelStreamInferResponse.FromString(answer).infer_response
        else:
            told = service_pb2.ModelInferResponse.FromString(answer)
        (data,) = told.raw_output_contents
        return str(told.model_name), list(struct.unpack(f"<{len(data) // 4}f", data))
    except (DecodeError, ValueError, struct.error):
        return None


def questions(flow: Flow) -> list[Question]:
    """Return the questions of a flow."""
    found = []
    for i in range(flow.questions):
        row = [float(i + j) for j in range(4)]
        asks = _http(flow, row) if flow.protocol == "http" else _message(flow, row)
        found.append(Question(asks, flow.model, [x + flow.adds for x in row], flow.protocol))
    return found


def _http(flow: Flow, row: list[float]) -> bytes:
    body = json.dumps(request_body("x", "FP32", [row]), separators=(",", ":")).encode()
    lines = [
        f"POST {flow.prefix}/v2/models/{flow.model}/infer HTTP/1.1",
        f"Host: {flow.host or flow.address}",
        *(f"{name}: {value}" for name, value in flow.headers.items()),
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _message(flow: Flow, row: list[float]) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=flow.model)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    request.raw_input_contents.append(struct.pack("<4f", *row))
    return bytes(request.SerializeToString())
