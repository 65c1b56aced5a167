"""The front door before real Tritons: who is let through, and that nothing is lost behind it."""

import os
import signal
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest
import requests
from tritonclient.grpc import service_pb2

from e2e.bench.front_door.burst import await_sleep, sleeper
from e2e.bench.front_door.door import GRPC_PORT, Door, front_door, key_of, processes
from e2e.bench.front_door.flow import Flow, Outcomes
from e2e.bench.front_door.load import Load, sent
from e2e.front_door import host_of
from e2e.install import Stage
from e2e.kubectl import names, wait_for
from e2e.load import request_body
from e2e.scratch import Scratch, adding, python_model, scratch, service
from e2e.tests.test_operator_absent import scale_operator

pytestmark = pytest.mark.cluster

HOST = "add.front-door.test"
BODY = request_body("x", "FP32", [[1.0, 2.0, 3.0, 4.0]])
SUM = [2.0, 3.0, 4.0, 5.0]
LIMIT = 10
KNOWN_S = 30.0
"""Until every replica of the front door knows what is new."""
RATE = 15.0
SCALING = {"minReplicas": 0, "maxReplicas": 2, "drainTimeout": "20s"}
POOLS = ("a100", "t4")


@dataclass(frozen=True)
class Shop:
    """Services of one tenant behind the front door, and the key of another tenant."""

    place: Scratch
    door: Door
    stranger: str
    """A key that is valid elsewhere."""

    def rest(
        self, path: str, body: Any = None, *, key: str | None = "", host: str | None = None
    ) -> requests.Response:
        """Ask over REST; ``key`` None: without one, empty: with the tenant's own."""
        headers = {} if key is None else {"Authorization": f"Bearer {key or self.door.key}"}
        if host is not None:
            headers["Host"] = host
        method, url = ("GET" if body is None else "POST"), f"http://{self.door.address}{path}"
        return requests.request(method, url, json=body, headers=headers, timeout=30)

    def infer(self, name: str, *, model: str = "add", **how: Any) -> requests.Response:
        """Ask a service by its path for one inference."""
        path = f"/{self.place.namespace}/{name}/v2/models/{model}/infer"
        return self.rest(path, how.pop("body", BODY), **how)

    def call(
        self,
        name: str,
        *,
        key: str = "",
        host: str | None = None,
        size: int = 4,
        model: str = "add",
    ) -> tuple[int, str]:
        """Ask over gRPC, by metadata or by host; return the status, and its words or the sums."""
        request = service_pb2.ModelInferRequest(model_name=model)
        request.inputs.add(name="x", datatype="FP32", shape=[1, size])
        request.raw_input_contents.append(struct.pack(f"<{size}f", *range(1, size + 1)))
        metadata = [("authorization", f"Bearer {key or self.door.key}")]
        options = [("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)]
        if host is None:
            metadata.append(("conch-service", f"{self.place.namespace}/{name}"))
        else:
            options.append(("grpc.default_authority", host))  # type: ignore[arg-type]
        with grpc.insecure_channel(f"{self.door.address}:{GRPC_PORT}", options) as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            try:
                answer = infer(request.SerializeToString(), timeout=30, metadata=metadata)
            except grpc.RpcError as error:
                return int(error.code().value[0]), str(error.details())
        told = service_pb2.ModelInferResponse.FromString(answer)
        return 0, str([*struct.unpack("<4f", told.raw_output_contents[0])])

    def flow(self, name: str, protocol: Any, **other: Any) -> Flow:
        """Return a small flow to a service."""
        given = {"rate": RATE, "seconds": 600.0, "connections": 4, "model": "add", **other}
        return self.door.flow(f"{name} {protocol}", self.place.namespace, name, protocol, **given)


@pytest.fixture(scope="module")
def shop(stage: Stage) -> Iterator[Shop]:
    """One model in three services: two replicas, a small one with limits, and one that sleeps."""
    with ExitStack() as stack:
        place = stack.enter_context(scratch(stage, "e2e-front-door"))
        other = stack.enter_context(scratch(stage, "e2e-front-door-other"))
        door = stack.enter_context(front_door(place))
        stranger = stack.enter_context(key_of(stage, other.namespace))
        limits = {"requestsPerSecond": LIMIT}
        place.apply(
            *python_model("add", adding(1)),
            service(
                "add",
                pools=POOLS,
                replicas=2,
                scaling=SCALING,
                endpoint={"hosts": [HOST], "maxBody": "64Ki", "slowStart": "1s"},
            ),
            service("limited", of="add", pools=POOLS, endpoint={"limits": limits}),
            sleeper("sleeper", of="add", pools=POOLS),
        )
        place.await_ready("add", 2)
        place.await_ready("limited")
        # Tenants are known once they have a service: keys of namespaces without one count too.
        found = Shop(place, door, stranger)
        for name in ("add", "limited"):
            _await_known(found, name)
        yield found


def _await_known(shop: Shop, name: str) -> None:
    """Wait until each replica of the front door, asked over connections of its own, answers."""

    def known() -> bool:
        return all(shop.infer(name).status_code == 200 for _ in range(6))

    wait_for(f"{name} at the front door", known, timeout=KNOWN_S)


def test_by_path_and_by_host_over_rest_and_grpc(shop: Shop) -> None:
    found = [shop.infer("add"), shop.rest("/v2/models/add/infer", BODY, host=HOST)]
    assert [r.json()["outputs"][0]["data"] for r in found] == [SUM, SUM]
    assert [shop.call("add"), shop.call("", host=HOST)] == [(0, str(SUM)), (0, str(SUM))]
    server = shop.rest(f"/{shop.place.namespace}/add/v2")
    assert server.json()["name"] == f"{shop.place.namespace}/add"
    told = shop.place.there("modelservice", "add")["status"]
    host = told["url"].removeprefix("http://")
    assert host == host_of(shop.place.namespace, "add")
    assert shop.rest("/v2/models/add/infer", BODY, host=host).json()["outputs"][0]["data"] == SUM
    assert told["grpc"].endswith(f":{GRPC_PORT}")


def test_without_a_right_key_nobody_is_let_through(shop: Shop) -> None:
    for key in (None, "not-a-key-that-anybody-has", shop.door.key[:-1]):
        assert shop.infer("add", key=key).status_code == 401
    assert shop.call("add", key="not-a-key-that-anybody-has")[0] == 16


def test_another_tenants_service_is_not_there(shop: Shop) -> None:
    foreign = shop.infer("add", key=shop.stranger)
    nowhere = shop.infer("no-such-service", key=shop.stranger)
    assert (foreign.status_code, foreign.text) == (404, nowhere.text)
    assert shop.call("add", key=shop.stranger) == shop.call("nothing", key=shop.stranger)
    assert shop.call("add", key=shop.stranger)[0] == 5


def test_over_the_limit(shop: Shop) -> None:
    found = [shop.infer("limited") for _ in range(3 * LIMIT)]
    refused = [r for r in found if r.status_code == 429]
    assert len(refused) >= LIMIT
    assert {r.status_code for r in found} == {200, 429}
    assert all(int(r.headers["Retry-After"]) >= 1 for r in refused)
    assert 8 in {shop.call("limited")[0] for _ in range(3 * LIMIT)}
    wait_for("another second", lambda: shop.infer("limited").ok, timeout=10)
    assert shop.infer("add").ok


def test_too_large(shop: Shop) -> None:
    large = request_body("x", "FP32", [[float(i) for i in range(20_000)]])
    assert shop.infer("add", body=large).status_code == 413
    assert {shop.call("add", size=size)[0] for size in (20_000, 1_000_000)} == {8}
    assert shop.infer("add").ok


def test_what_triton_refuses_is_told_in_its_words(shop: Shop) -> None:
    shape = shop.infer("add", body=request_body("x", "FP32", [[1.0, 2.0]]))
    whole = {"name": "x", "datatype": "INT32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    datatype = shop.infer("add", body={"inputs": [whole]})
    assert [r.status_code for r in (shape, datatype)] == [400, 400]
    assert "unexpected shape for input 'x'" in shape.json()["error"]
    assert "data-type" in datatype.json()["error"]
    code, words = shop.call("add", size=2)
    assert (code, "unexpected shape" in words) == (3, True)


def test_only_the_model_and_the_protocol_are_there(shop: Shop) -> None:
    assert shop.infer("add", model="no-such-model").status_code == 404
    for path in (
        "/v2/repository/index",
        "/v2/repository/models/add/unload",
        "/v2/systemsharedmemory/status",
        "/v2/logging",
        "/metrics",
        "/v2/../v2/repository/index",
    ):
        under = f"/{shop.place.namespace}/add{path}"
        assert [shop.rest(under).status_code, shop.rest(under, {}).status_code] == [404] * 2, path
        assert shop.rest(path, {}, host=HOST).status_code == 404, path
    assert shop.infer("add").ok


def test_replicas_come_and_go_and_no_request_fails(shop: Shop) -> None:
    place = shop.place
    flows = [shop.flow("add", p) for p in ("http", "grpc", "stream")]
    with Load(*flows) as load:
        load.more_answers(50)
        _scale(place, "add", 1)
        place.await_ready("add", 1)
        load.more_answers(50)
        _scale(place, "add", 2)
        place.await_ready("add", 2)
        load.more_answers(50)
        place.kubectl("delete", "pod", names(place.pods("add"))[0], "--wait=false")
        place.await_ready("add", 2)
        load.more_answers(50)
    _none_failed(load.outcomes)


def _scale(place: Scratch, name: str, replicas: int) -> None:
    place.kubectl("scale", "modelservice", name, f"--replicas={replicas}")


def _none_failed(outcomes: list[Outcomes]) -> None:
    assert [(o.name, o.wrong) for o in outcomes if o.wrong or not o.right] == [], [
        o.summary() for o in outcomes
    ]


def test_a_burst_on_a_service_that_sleeps_is_held_and_answered(shop: Shop) -> None:
    await_sleep(shop.place, "sleeper")
    common: dict[str, Any] = {"rate": 1e6, "most": 40, "seconds": 5.0, "timeout": 100.0}
    flows = [
        replace(shop.flow("sleeper", p), connections=n, **common)
        for p, n in (("http", 40), ("grpc", 4))
    ]
    _none_failed(sent(*flows))
    assert shop.place.pods("sleeper")


def test_it_routes_on_without_operator_and_agents(shop: Shop, stage: Stage) -> None:
    scale_operator(stage.tools, 0)
    try:
        with _agents_stopped(shop.door):
            flows = [shop.flow("add", p, most=100) for p in ("http", "grpc")]
            _none_failed(sent(*flows))
            assert shop.infer("add", key="not-a-key-that-anybody-has").status_code == 401
    finally:
        scale_operator(stage.tools, 1)


@contextmanager
def _agents_stopped(door: Door) -> Iterator[None]:
    """Have the agents do nothing at all while the body runs."""
    agents = [process for pod in door.await_ready() for process in processes(pod, "conch")]
    assert len(agents) >= 2
    try:
        for process in agents:
            os.kill(process, signal.SIGSTOP)
        yield
    finally:
        for process in agents:
            os.kill(process, signal.SIGCONT)
