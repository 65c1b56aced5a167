"""Runs model.onnx, which lies beside this file, in Triton's python backend.

The inputs and outputs are those of the ONNX model; their names are those of config.pbtxt.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb  # type: ignore[import-not-found]

MODEL = "model.onnx"


class TritonPythonModel:
    """One instance of the model: one session on one thread."""

    def initialize(self, _args: dict[str, str]) -> None:
        """Load the model. Called once by Triton."""
        options = ort.SessionOptions()
        # More threads than a replica's share of a CPU would only wait for each other.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        path = Path(__file__).with_name(MODEL)
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._inputs = [port.name for port in self._session.get_inputs()]
        self._outputs = [port.name for port in self._session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that Triton has gathered, by one run over all their items."""
        given = [self._given(request) for request in requests]
        together = {name: np.concatenate([g[name] for g in given]) for name in self._inputs}
        results = self._session.run(self._outputs, together)
        ends = np.cumsum([len(g[self._inputs[0]]) for g in given])[:-1]
        shares = zip(*(np.split(result, ends) for result in results), strict=True)
        return [self._answer(share) for share in shares]

    def _given(self, request: Any) -> dict[str, Any]:
        return {n: pb.get_input_tensor_by_name(request, n).as_numpy() for n in self._inputs}

    def _answer(self, results: tuple[Any, ...]) -> Any:
        named = zip(self._outputs, results, strict=True)
        return pb.InferenceResponse(output_tensors=[pb.Tensor(n, r) for n, r in named])
