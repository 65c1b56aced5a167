"""Asks a service by the KServe v2 protocol, over REST and over gRPC, with Triton's own client."""

from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from numpy.typing import NDArray

from conch.api.names import PORT_GRPC, PORT_HTTP

TIMEOUT_S = 20.0


def ask_rest(
    address: str, model: str, *, given: tuple[str, NDArray[np.float32]], wanted: str
) -> NDArray[Any]:
    """Ask over REST; ``given`` is the input's name and value, ``wanted`` the output's name."""
    name, value = given
    client = over_http.InferenceServerClient(
        f"{address}:{PORT_HTTP}", connection_timeout=TIMEOUT_S, network_timeout=TIMEOUT_S
    )
    try:
        tensor = over_http.InferInput(name, list(value.shape), "FP32")
        tensor.set_data_from_numpy(value, binary_data=False)
        output = over_http.InferRequestedOutput(wanted, binary_data=False)
        return np.asarray(client.infer(model, [tensor], outputs=[output]).as_numpy(wanted))
    finally:
        client.close()


def ask_grpc(
    address: str, model: str, *, given: tuple[str, NDArray[np.float32]], wanted: str
) -> NDArray[Any]:
    """Ask over gRPC; the arguments are those of ``ask_rest``."""
    name, value = given
    client = over_grpc.InferenceServerClient(f"{address}:{PORT_GRPC}")
    try:
        tensor = over_grpc.InferInput(name, list(value.shape), "FP32")
        tensor.set_data_from_numpy(value)
        output = over_grpc.InferRequestedOutput(wanted)
        answer = client.infer(model, [tensor], outputs=[output], client_timeout=TIMEOUT_S)
        return np.asarray(answer.as_numpy(wanted))
    finally:
        client.close()
