"""A model server on the loopback that answers over HTTP and gRPC, and misbehaves where it is told to."""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

MODEL, ADDS = "add", 1.0


class Server:
    """Adds one, and counts requests, from 1: ``misbehave`` gets the number of each.

    It says what to do in place of answering: close, reset, half, wrong, late, bye (answer, then
    close) or a status of HTTP or a code of gRPC.
    """

    def __init__(self, misbehave: Callable[[int], str | int | None] = lambda _: None) -> None:
        self.misbehave = misbehave
        self.asked = 0
        self.heads: list[str] = []
        self.accepted = 0
        self.open: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        over_http = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        over_grpc = grpc.aio.server()
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Servicer(self), over_grpc)
        self.http = f"127.0.0.1:{over_http.sockets[0].getsockname()[1]}"
        self.grpc = f"127.0.0.1:{over_grpc.add_insecure_port('127.0.0.1:0')}"
        await over_grpc.start()
        self._ready.set()
        await self._over.wait()
        over_http.close()
        for writer in self.open:
            writer.transport.abort()
        await over_grpc.stop(0)

    def close_idle(self) -> None:
        """Close every connection of HTTP."""

        def close() -> None:
            for writer in self.open:
                writer.close()

        self.loop.call_soon_threadsafe(close)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open.add(writer)
        try:
            while await self._answer(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        self.asked += 1
        what = self.misbehave(self.asked)
        if what == "close":
            return False
        if what == "reset":
            # Without lingering, the end is a reset.
            linger = struct.pack("ii", 1, 0)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            return False
        if what == "late":
            await asyncio.sleep(1)
        adds = 5.0 if what == "wrong" else ADDS
        data = [x + adds for x in body["inputs"][0]["data"]]
        output = {"name": "sum", "datatype": "FP32", "shape": [1, 4], "data": data}
        text = json.dumps({"model_name": MODEL, "outputs": [output]}).encode()
        status = f"{what} Refused" if isinstance(what, int) else "200 OK"
        bye = "Connection: close\r\n" if what == "bye" else ""
        told = f"HTTP/1.1 {status}\r\n{bye}content-length: {len(text)}\r\n\r\n".encode() + text
        # In pieces, as from a network.
        writer.write(told[:7])
        await writer.drain()
        await asyncio.sleep(0)
        if what == "half":
            return False
        writer.write(told[7:])
        await writer.drain()
        return what != "bye"


class _Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def __init__(self, server: Server) -> None:
        self._server = server

    async def _answered(self, request: Any, context: Any) -> Any:
        self._server.asked += 1
        self._server.heads.append(str(context.invocation_metadata()))
        what = self._server.misbehave(self._server.asked)
        if isinstance(what, int):
            code = next(c for c in grpc.StatusCode if c.value[0] == what)
            await context.abort(code, "told to")
        (data,) = request.raw_input_contents
        adds = 5.0 if what == "wrong" else ADDS
        row = [x + adds for x in struct.unpack("<4f", data)]
        answer = service_pb2.ModelInferResponse(model_name=MODEL)
        answer.outputs.add(name="sum", datatype="FP32", shape=[1, 4])
        answer.raw_output_contents.append(struct.pack("<4f", *row))
        return answer

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answered(request, context)

    async def ModelStreamInfer(self, requests: Any, context: Any) -> Any:  # noqa: N802
        async for request in requests:
            answer = await self._answered(request, context)
            yield service_pb2.ModelStreamInferResponse(infer_response=answer)
