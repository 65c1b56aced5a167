"""Replicas asked as their callers ask them: KServe's protocol over HTTP, one request after the other."""

import json
import math
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from conch.api.names import PORT_HTTP

PATIENCE_S = 20.0
"""For one request; a model's first one may take long."""
CONNECT_S = 3.0
"""To reach a replica at all."""
_LENGTH = "Inference-Header-Content-Length"
"""Of the JSON before the inputs' bytes, by Triton's binary tensor data extension."""


class ReplicaUnreachable(Exception):  # noqa: N818 - a state of the world, as users read it
    """Nobody answers at the address; the message says why, for people."""


class ReplicaRefuses(Exception):  # noqa: N818 - a state of the world, as users read it
    """The replica answers with an error; the message is its own."""


class Replicas(Protocol):
    """Who can ask replicas."""

    async def timed(
        self, address: str, model: str, values: Mapping[str, str], *, count: int
    ) -> Sequence[float]:
        """Return what ``count`` inferences took, one after the other, in seconds.

        ``address`` is the pod's IP, ``model`` Triton's name of the model, ``values`` JSON of one item by
        input; of others all is zero. Raises ReplicaUnreachable and ReplicaRefuses.
        """
        ...


@dataclass(frozen=True)
class _Question:
    """An inference as it is sent."""

    url: str
    head: bytes
    data: bytes


class TritonReplicas:
    """The replicas themselves."""

    def __init__(self, port: int = PORT_HTTP) -> None:
        """``port`` is where each of them takes requests."""
        self._port = port

    async def timed(
        self, address: str, model: str, values: Mapping[str, str], *, count: int
    ) -> Sequence[float]:
        """Return what inferences took; see Replicas."""
        url = f"http://{_host(address)}:{self._port}/v2/models/{model}"
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S, sock_connect=CONNECT_S)
        try:
            async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
                async with session.get(url) as answer:
                    question = question_of(url, await _told(answer), values)
                return [await _one(session, question) for _ in range(count)]
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            words = str(error) or type(error).__name__
            raise ReplicaUnreachable(f"{address} does not answer: {words:.300}") from error


async def _one(session: aiohttp.ClientSession, question: _Question) -> float:
    began = time.perf_counter()
    headers = {_LENGTH: str(len(question.head)), "Content-Type": "application/octet-stream"}
    body = question.head + question.data
    async with session.post(f"{question.url}/infer", data=body, headers=headers) as answer:
        if answer.status != 200:
            await _told(answer)
        await answer.read()
    return time.perf_counter() - began


async def _told(answer: aiohttp.ClientResponse) -> Any:
    """Return the JSON of an answer. Raises ReplicaRefuses for an error."""
    text = await answer.text(errors="replace")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ReplicaRefuses(f"status {answer.status}: {text:.300}") from error
    if answer.status != 200:
        words = found.get("error", text) if isinstance(found, dict) else text
        raise ReplicaRefuses(f"status {answer.status}: {words!s:.300}")
    return found


def question_of(url: str, metadata: Any, values: Mapping[str, str]) -> _Question:
    """Return an inference of one item for a model that describes itself so.

    Lengths that are free are 1. Raises ReplicaRefuses where that can't be made.
    """
    inputs, data = [], b""
    try:
        for tensor in metadata["inputs"]:
            name, datatype = str(tensor["name"]), str(tensor["datatype"])
            shape = [1 if int(n) < 0 else int(n) for n in tensor["shape"]]
            one: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
            if name in values:
                one["data"] = _flat(json.loads(values[name]))
                one["shape"] = _fitting(shape, len(one["data"]))
            else:
                zeros = _zeros(datatype, math.prod(shape))
                one["parameters"] = {"binary_data_size": len(zeros)}
                data += zeros
            inputs.append(one)
    except (KeyError, TypeError, ValueError) as error:
        raise ReplicaRefuses(f"no request can be made for it: {error!r:.300}") from error
    # Some types can not be told in JSON.
    asked = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    return _Question(url, json.dumps(asked).encode(), data)


def _flat(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    return [one for part in value for one in _flat(part)]


def _fitting(shape: list[int], count: int) -> list[int]:
    """Return the shape, with the last length such that it holds so many values."""
    rest = math.prod(shape[:-1])
    return shape if math.prod(shape) == count or count % rest else [*shape[:-1], count // rest]


def _zeros(datatype: str, count: int) -> bytes:
    """Return so many zeros; of BYTES, empty texts with their lengths."""
    if datatype == "BYTES":
        return struct.pack("<I", 0) * count
    widths = {"BOOL": 1, "BF16": 2}
    return bytes(count * (widths.get(datatype) or int(datatype.lstrip("UINTFP")) // 8))


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
