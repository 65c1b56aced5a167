"""A stand-in for one Triton pod: the protocol's paths on ports 8000 and 8001 of a loopback address.

``python -m tests.kit.replica ADDRESS SERVICE MODEL``. What it should do besides answering is said by
requests: JSON with ``{"parameters": {"sleep": 0.5}}``, or, for all from then on, ``POST /mode/hang``,
``/mode/fail``, ``/mode/cut`` (the connection, unanswered), ``/mode/slow`` (by 0.2 s) and
``/mode/fine``, which no front door lets through. An inference answers with the address. The tests on the local cluster do the same with the real Triton.
"""

import asyncio
import json
import sys
from typing import Any

import grpc
from aiohttp import web
from tritonclient.grpc import service_pb2, service_pb2_grpc

from conch.api.names import PORT_GRPC, PORT_HTTP

SLOW_S = 0.2


class Replica:
    """What it answers."""

    def __init__(self, address: str, service: str, model: str) -> None:
        self.address, self.service, self.model = address, service, model
        self.mode = "fine"
        self.answered = self.failed = 0

    async def name(self, _: web.Request) -> web.Response:
        return web.json_response({"name": self.service, "version": "2.51.0"}, dumps=_compact)

    async def metadata(self, _: web.Request) -> web.Response:
        inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        return web.json_response({"name": self.model, "inputs": inputs})

    async def ready(self, _: web.Request) -> web.Response:
        return web.Response()

    async def infer(self, request: web.Request) -> web.Response:
        body = await request.json()
        if request.match_info["model"] != self.model:
            return web.json_response({"error": "Request for unknown model"}, status=400)
        if not body.get("inputs"):
            return web.json_response({"error": "expected 1 inputs but got 0 inputs"}, status=400)
        if self.mode == "hang":
            await asyncio.sleep(3600)
        if self.mode == "cut" and request.transport is not None:
            request.transport.abort()
        if self.mode == "slow":
            await asyncio.sleep(SLOW_S)
        if self.mode == "fail":
            self.failed += 1
            return web.json_response({"error": "the model failed"}, status=500)
        await asyncio.sleep(float((body.get("parameters") or {}).get("sleep", 0)))
        self.answered += 1
        headers = {k: v for k, v in request.headers.items() if k.lower() in _TOLD}
        return web.json_response({"from": self.address, "headers": headers})

    async def set_mode(self, request: web.Request) -> web.Response:
        self.mode = request.match_info["mode"]
        failed, self.failed = self.failed, 0
        return web.json_response({"answered": self.answered, "failed": failed})


_TOLD = ("authorization", "x-api-key")


def _compact(item: Any) -> str:
    return json.dumps(item, separators=(",", ":"))


class _Grpc(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def _answer(self, request: Any) -> Any:
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
        answer.parameters["from"].string_param = self._replica.address
        return answer

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.model_name != self._replica.model:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown model")
        if self._replica.mode == "fail":
            self._replica.failed += 1
            await context.abort(grpc.StatusCode.INTERNAL, "the model failed")
        if request.parameters["sleep"].int64_param:
            await asyncio.sleep(request.parameters["sleep"].int64_param / 1000)
        if self._replica.mode == "slow":
            await asyncio.sleep(SLOW_S)
        return self._answer(request)

    async def ModelStreamInfer(self, requests: Any, _: Any) -> Any:  # noqa: N802
        async for request in requests:
            yield service_pb2.ModelStreamInferResponse(infer_response=self._answer(request))


async def _serve(replica: Replica) -> None:
    app = web.Application(client_max_size=1 << 30)
    app.add_routes(
        [
            web.get("/v2", replica.name),
            web.get("/v2/health/live", replica.ready),
            web.get("/v2/models/{model}", replica.metadata),
            web.get("/v2/models/{model}/ready", replica.ready),
            web.post("/v2/models/{model}/infer", replica.infer),
            web.post("/v2/repository/index", replica.ready),
            web.post("/mode/{mode}", replica.set_mode),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, replica.address, PORT_HTTP).start()
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Grpc(replica), server)
    server.add_insecure_port(f"{replica.address}:{PORT_GRPC}")
    await server.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(_serve(Replica(*sys.argv[1:4])))
