"""A small server of the KServe v2 protocol, over HTTP and gRPC, as strict as Triton.

with ModelServer(page, key="…") as server:     # a service behind a front door
    ask(server.http, server.grpc)
    assert server.asked == [Asked("http", {"image": (1, 64)})]
"""

import json
import math
import struct
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from conch.api.model import Datatype, Tensor
from conch.api.names import PORT_GRPC, PORT_HTTP

LENGTH = "Inference-Header-Content-Length"
_CODES = {400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED}
_WIDTHS = {Datatype.BOOL: 1, Datatype.BF16: 2}
_NO_JSON = (Datatype.FP16, Datatype.BF16)


class RefusedError(Exception):
    """A request that the protocol does not allow."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """A request that was answered."""

    protocol: str
    inputs: Mapping[str, tuple[int, ...]]
    """Shapes by name."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """The JSON, of a request over HTTP."""


@dataclass(frozen=True)
class Served:
    """The one model of a server."""

    service: str
    """NAMESPACE/SERVICE: below which path, and by which metadata, it is asked."""
    model: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    max_batch_size: int
    key: str | None = None

    @property
    def batch(self) -> list[int]:
        return [-1] if self.max_batch_size else []

    def metadata(self) -> dict[str, Any]:
        def told(tensors: Iterable[Tensor]) -> list[dict[str, Any]]:
            return [
                {"name": t.name, "datatype": t.datatype, "shape": [*self.batch, *t.shape]}
                for t in tensors
            ]

        return {
            "name": self.model,
            "versions": ["1"],
            "platform": "python",
            "inputs": told(self.inputs),
            "outputs": told(self.outputs),
        }

    def check_key(self, given: str | None) -> None:
        if self.key is not None and given != f"Bearer {self.key}":
            raise RefusedError(401, "no valid key")

    def check(self, given: Mapping[str, tuple[str, Sequence[int]]]) -> None:
        """Check datatypes and shapes by name. Raises RefusedError."""
        wanted = {t.name: t for t in self.inputs}
        if set(given) != set(wanted):
            raise RefusedError(400, f"expected inputs {sorted(wanted)}, got {sorted(given)}")
        for name, (datatype, shape) in given.items():
            tensor = wanted[name]
            right = [*self.batch, *tensor.shape]
            fits = len(shape) == len(right) and all(
                r in (-1, s) for r, s in zip(right, shape, strict=True)
            )
            if not fits or (self.max_batch_size and not 1 <= shape[0] <= self.max_batch_size):
                raise RefusedError(
                    400, f"unexpected shape for input '{name}': {right}, got {shape}"
                )
            if datatype != tensor.datatype:
                raise RefusedError(400, f"input '{name}' is {tensor.datatype}, got {datatype}")

    def answers(self, batch: int) -> Iterable[tuple[Tensor, list[int]]]:
        for tensor in self.outputs:
            shape = [*([batch] if self.max_batch_size else []), *(max(n, 2) for n in tensor.shape)]
            yield tensor, shape


def width(datatype: str) -> int:
    """Return the bytes of an element; of BYTES, of an empty one."""
    kind = Datatype(datatype)
    if kind is Datatype.BYTES:
        return 4
    return _WIDTHS.get(kind) or int("".join(filter(str.isdigit, datatype))) // 8


def raw(datatype: str, count: int) -> bytes:
    """Return so many zeros."""
    return bytes(width(datatype) * count)


def check_raw(name: str, datatype: str, shape: Sequence[int], data: bytes) -> None:
    """Check that bytes are values of that shape. Raises RefusedError."""
    count, rest = math.prod(shape), data
    if datatype == Datatype.BYTES:
        while rest and len(rest) >= 4 + struct.unpack("<I", rest[:4])[0]:
            rest, count = rest[4 + struct.unpack("<I", rest[:4])[0] :], count - 1
        wrong = bool(rest) or count
    else:
        wrong = len(data) != width(datatype) * count
    if wrong:
        raise RefusedError(400, f"unexpected total byte size {len(data)} for input '{name}'")


def _flat(data: Any) -> Iterable[Any]:
    if isinstance(data, list):
        for item in data:
            yield from _flat(item)
    else:
        yield data


_PYTHON = {Datatype.BOOL: bool, Datatype.BYTES: str}


def _check_json(name: str, datatype: str, shape: Sequence[int], data: Any) -> None:
    if datatype in _NO_JSON:
        raise RefusedError(400, f"{datatype} can't be given in JSON; send bytes for '{name}'")
    values = list(_flat(data))
    if len(values) != math.prod(shape):
        raise RefusedError(400, f"unable to parse 'data' of '{name}': {len(values)} values")
    floating = datatype.startswith("FP")
    kind: Any = _PYTHON.get(Datatype(datatype), (int, float) if floating else int)
    if not all(isinstance(v, kind) and (kind is bool) == isinstance(v, bool) for v in values):
        raise RefusedError(400, f"unable to parse 'data' of '{name}' as {datatype}")


class ModelServer:
    """The server, on free ports of the loopback.

    ``pod`` is an address where it is one pod of the service instead: on a pod's ports, and without
    a name before its paths.
    """

    def __init__(self, served: Served, *, pod: str | None = None) -> None:
        self.served = served
        self.pod = pod
        self.asked: list[Asked] = []
        self.refused: list[str] = []
        ports = (PORT_HTTP, PORT_GRPC) if pod else (0, 0)
        address = pod or "127.0.0.1"
        self._http = ThreadingHTTPServer((address, ports[0]), _handler_of(self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._grpc = grpc.server(ThreadPoolExecutor(4))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Grpc(self), self._grpc)
        self._port = self._grpc.add_insecure_port(f"{address}:{ports[1]}")

    @property
    def url(self) -> str:
        """Where the front door is; the service is below it."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def grpc(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._grpc.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)
        self._grpc.stop(None).wait(10)

    def http_answer(
        self, method: str, path: str, headers: Any, body: bytes
    ) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers."""
        try:
            self.served.check_key(headers.get("Authorization"))
            return self._routed(method, path, headers, body)
        except RefusedError as error:
            self.refused.append(str(error))
            return error.status, json.dumps({"error": str(error)}).encode(), {}

    def _routed(
        self, method: str, path: str, headers: Any, body: bytes
    ) -> tuple[int, bytes, dict[str, str]]:
        before = "" if self.pod else f"/{self.served.service}"
        if self.pod and path == "/v2":
            return 200, f'{{"name":"{self.served.service}"}}'.encode(), {}
        root = f"{before}/v2/models/{self.served.model}"
        if (method, path) == ("GET", root):
            return 200, json.dumps(self.served.metadata()).encode(), {}
        if (method, path) == ("POST", f"{root}/infer"):
            return self._infer(headers, body)
        raise RefusedError(404, f"there is no {method} {path}")

    def _infer(self, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        length = int(headers.get(LENGTH) or len(body))
        asked, rest = json.loads(body[:length]), body[length:]
        given = {i["name"]: (i["datatype"], i["shape"]) for i in asked["inputs"]}
        self.served.check(given)
        for one in asked["inputs"]:
            size = one.get("parameters", {}).get("binary_data_size")
            facts = (one["name"], one["datatype"], one["shape"])
            if size is None:
                _check_json(*facts, one.get("data"))
            else:
                check_raw(*facts, rest[:size])
                rest = rest[size:]
        if rest:
            raise RefusedError(400, f"unexpected additional input data, {len(rest)} bytes")
        self.asked.append(Asked("http", {n: tuple(s) for n, (_, s) in given.items()}, asked))
        return self._http_outputs(asked, next(iter(given.values()))[1])

    def _http_outputs(
        self, asked: dict[str, Any], shape: Sequence[int]
    ) -> tuple[int, bytes, dict[str, str]]:
        wanted = {o["name"]: o for o in asked.get("outputs", ())}
        all_raw = asked.get("parameters", {}).get("binary_data_output", False)
        told, tail = [], b""
        for tensor, sizes in self.served.answers(shape[0]):
            if wanted and tensor.name not in wanted:
                continue
            one: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": sizes}
            how = wanted.get(tensor.name, {}).get("parameters", {})
            if how.get("binary_data", all_raw):
                data = raw(tensor.datatype, math.prod(sizes))
                tail += data
                one["parameters"] = {"binary_data_size": len(data)}
            elif tensor.datatype in _NO_JSON:
                raise RefusedError(400, f"{tensor.datatype} can't be sent as JSON")
            else:
                element: Any = "" if tensor.datatype is Datatype.BYTES else 0
                one["data"] = [element] * math.prod(sizes)
            told.append(one)
        head = {"model_name": self.served.model, "model_version": "1", "outputs": told}
        text = json.dumps(head).encode()
        return 200, text + tail, {LENGTH: str(len(text))} if tail else {}


def _handler_of(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, told, headers = server.http_answer(self.command, self.path, self.headers, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(told)))
            self.send_header("Content-Type", "application/json")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_POST = _answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    return Handler


class _Grpc(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def __init__(self, server: ModelServer) -> None:
        self._server = server

    def _check(self, model: str, context: Any) -> None:
        served = self._server.served
        told = dict(context.invocation_metadata())
        served.check_key(told.get("authorization"))
        named = None if self._server.pod else served.service
        if told.get("conch-service") != named or model != served.model:
            raise RefusedError(404, "there is no such service")

    def _refuse(self, context: Any, error: RefusedError) -> None:
        self._server.refused.append(str(error))
        context.abort(_CODES.get(error.status, grpc.StatusCode.NOT_FOUND), str(error))

    def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            self._check(request.name, context)
        except RefusedError as error:
            self._refuse(context, error)
        return service_pb2.ModelMetadataResponse(**self._server.served.metadata())

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        served = self._server.served
        try:
            self._check(request.model_name, context)
            served.check({i.name: (i.datatype, [*i.shape]) for i in request.inputs})
            for one, data in zip(request.inputs, request.raw_input_contents, strict=True):
                check_raw(one.name, one.datatype, [*one.shape], data)
        except RefusedError as error:
            self._refuse(context, error)
        shapes = {i.name: tuple(i.shape) for i in request.inputs}
        self._server.asked.append(Asked("grpc", shapes))
        return self._outputs(next(iter(shapes.values())))

    def _outputs(self, shape: Sequence[int]) -> Any:
        answer = service_pb2.ModelInferResponse(model_name=self._server.served.model)
        for tensor, sizes in self._server.served.answers(shape[0]):
            answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=sizes)
            answer.raw_output_contents.append(raw(tensor.datatype, math.prod(sizes)))
        return answer
