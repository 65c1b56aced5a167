"""The file that Triton's python backend runs, with a stand-in for what Triton gives it."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from examples.models import train


@dataclass(frozen=True)
class Tensor:
    """A tensor as the backend has it."""

    name: str
    value: Any

    def as_numpy(self) -> Any:
        return self.value


@dataclass(frozen=True)
class Response:
    output_tensors: list[Tensor]

    def __getitem__(self, name: str) -> Any:
        return next(t.value for t in self.output_tensors if t.name == name)


def backend() -> ModuleType:
    """The part of triton_python_backend_utils that the model uses; a request is its inputs."""
    module = ModuleType("triton_python_backend_utils")
    module.__dict__.update(
        Tensor=Tensor,
        InferenceResponse=Response,
        get_input_tensor_by_name=lambda request, name: Tensor(name, request[name]),
    )
    return module


def served(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The sample ``name`` as Triton would load it."""
    train.ensure_models()
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend())
    file = train.OUTPUT / name / "model.py"
    spec = importlib.util.spec_from_file_location(f"served_{name}", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    model.initialize({"model_repository": str(Path("/models"))})
    return model


def items(count: int, width: int) -> Any:
    return np.random.default_rng(count).uniform(0, 16, (count, width)).astype(np.float32)


SIZES = (1, 3, 2)


def test_each_request_gets_the_answers_to_its_own_items(monkeypatch: pytest.MonkeyPatch) -> None:
    model = served("digits", monkeypatch)
    requests = [{"image": items(n, 64)} for n in SIZES]
    together = model.execute(requests)
    for size, request, response in zip(SIZES, requests, together, strict=True):
        assert response["probabilities"].shape == (size, 10)
        (alone,) = model.execute([request])
        np.testing.assert_allclose(response["probabilities"], alone["probabilities"], atol=1e-5)


def test_requests_that_came_together_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = served("digits", monkeypatch)
    runs = []
    session = model._session

    class Watched:
        def run(self, names: list[str], given: dict[str, Any]) -> Any:
            runs.append(len(given["image"]))
            return session.run(names, given)

    model._session = Watched()
    model.execute([{"image": items(n, 64)} for n in SIZES])
    assert runs == [sum(SIZES)]


def test_all_outputs_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    model = served("tumor", monkeypatch)
    first, second = model.execute([{"measurements": items(n, 30)} for n in (2, 1)])
    assert [t.name for t in first.output_tensors] == ["probabilities", "uncertainty"]
    assert first["uncertainty"].shape == (2, 1)
    assert second["probabilities"].shape == (1, 2)
