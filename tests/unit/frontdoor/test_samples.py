"""The samples of a page run as they stand, against a server that is as strict as Triton."""

import ast
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from conch.api.model import Datatype
from conch.frontdoor.page import Addresses, ServicePage, page_of
from conch.frontdoor.pages import docs_page
from conch.frontdoor.samples import Language, samples
from e2e.page_samples import run_sample, samples_in
from tests.kit.kserve import ModelServer, Served
from tests.unit.frontdoor.callers import NASTY, Object, model, page, service, small_tensors, tensors

KEY = "conch_0123456789abcdef"
OVER = {
    Language.CURL: "http",
    Language.URLLIB: "http",
    Language.HTTP: "http",
    Language.GRPC: "grpc",
}


def tensor(name: str, datatype: str, *shape: int) -> Object:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def ask(
    tmp_path: Path,
    inputs: Sequence[Object],
    outputs: Sequence[Object],
    *,
    batch: int = 8,
    key: str | None = KEY,
    known: bool = True,
) -> tuple[ModelServer, dict[str, subprocess.CompletedProcess[str]]]:
    """Return a server of such a model, and what the samples of its page said."""
    told = model(inputs, outputs, batch=batch)
    shape = page_of(service(), told, Addresses("", ""))
    served = Served("vision/answers", "digits", shape.inputs, shape.outputs, batch, key)
    endpoint = {"access": "Keys" if key else "Open"}
    with ModelServer(served) as server:
        found = page_of(
            service(endpoint), told if known else None, Addresses(server.url, server.grpc)
        )
        programs = samples_in(docs_page(found))
        assert set(programs) == set(Language)
        done = {}
        for language, text in programs.items():
            done[language] = run_sample(language, text, folder=tmp_path, key=key)
    assert not (tmp_path / "hacked").exists()
    assert server.refused == []
    for language, one in done.items():
        assert one.returncode == 0, f"{language}: {one.stderr}"
        assert one.stderr == ""
    return server, done


MODELS: dict[str, tuple[Sequence[Object], Sequence[Object], int]] = {
    "batched": ([tensor("image", "FP32", 64)], [tensor("probabilities", "FP32", 10)], 8),
    "single": ([tensor("x", "INT64", 2, 3)], [tensor("y", "BOOL", 1)], 0),
    "free": (
        [tensor("ids", "INT32", -1), tensor("mask", "BOOL", -1)],
        [tensor("y", "FP64", -1)],
        4,
    ),
    "text": ([tensor("prompt", "BYTES", 1)], [tensor("text", "BYTES", 1)], 4),
    "half": ([tensor("x", "FP16", 5), tensor("n", "UINT8", 2)], [tensor("y", "FP16", 2)], 4),
    "bfloat": ([tensor("x", "BF16", 4)], [tensor("y", "BF16", 2), tensor("z", "INT8", 1)], 0),
    "half-out": ([tensor("x", "FP32", 4)], [tensor("y", "FP16", 2)], 0),
    "large": ([tensor("image", "FP32", 3, 224, 224)], [tensor("y", "FP32", 1000)], 8),
    "large-text": ([tensor("words", "BYTES", 2000)], [tensor("y", "FP32", 1)], 0),
    "nasty": (
        [tensor(n, "FP32", 2) for n in NASTY],
        [tensor(n, "INT32", 1) for n in NASTY],
        2,
    ),
    "nasty-bytes": ([tensor(n, "FP16", 2) for n in NASTY], [tensor(NASTY[0], "BF16", 1)], 2),
}


@pytest.mark.parametrize("name", MODELS)
def test_samples_run_as_they_stand(tmp_path: Path, name: str) -> None:
    inputs, outputs, batch = MODELS[name]
    server, done = ask(tmp_path, inputs, outputs, batch=batch)
    assert [a.protocol for a in server.asked] == [OVER[Language(n)] for n in done]
    (shapes,) = {tuple(a.inputs.items()) for a in server.asked}
    assert dict(shapes) == {
        i["name"]: (*([1] if batch else []), *(4 if n < 0 else n for n in i["shape"]))
        for i in inputs
    }
    for output in outputs:
        for language in set(done) - {Language.CURL}:
            shown = output["name"] if output["name"].isascii() else ""
            assert shown in done[language].stdout


def test_samples_of_an_open_service_need_no_key(tmp_path: Path) -> None:
    server, done = ask(tmp_path, [tensor("x", "FP32", 4)], [tensor("y", "FP32", 1)], key=None)
    assert len(server.asked) == len(done) == 4
    assert all("KEY" not in s.text for s in samples(page(access="Open")))


def test_samples_of_an_unknown_model_ask_for_its_tensors(tmp_path: Path) -> None:
    _, done = ask(tmp_path, [tensor("some", "FP32", 4)], [tensor("y", "FP32", 1)], known=False)
    assert all("some" in one.stdout for one in done.values())


def test_without_the_right_key_samples_fail(tmp_path: Path) -> None:
    """So a sample that sends none would be found out."""
    inputs, outputs, batch = MODELS["batched"]
    found = page(inputs, outputs, batch=batch)
    served = Served("vision/answers", "digits", found.inputs, found.outputs, batch, KEY)
    with ModelServer(served) as server:
        here = page(inputs, outputs, batch=batch, addresses=Addresses(server.url, server.grpc))
        for sample in samples(here):
            done = run_sample(sample.language, sample.text, folder=tmp_path, key="another")
            assert done.returncode != 0 or "no valid key" in done.stdout, sample.language
    assert server.asked == []
    assert len(server.refused) == 4


def secure() -> ServicePage:
    return page(addresses=Addresses("https://models.example:8443", "models.example:8443"))


def test_samples_over_tls() -> None:
    texts = {s.language: s.text for s in samples(secure())}
    root = "https://models.example:8443/vision/answers"
    assert f"{root}/v2/models/digits/infer" in texts[Language.CURL]
    assert f'"{root}/v2/models/digits/infer"' in texts[Language.URLLIB]
    assert '"models.example:8443/vision/answers"' in texts[Language.HTTP]
    assert "ssl=True" in texts[Language.HTTP]
    assert 'InferenceServerClient("models.example:8443", ssl=True)' in texts[Language.GRPC]


def test_samples_wait_for_a_service_that_sleeps() -> None:
    found = page(maxWait="90s", timeout="500ms")
    assert all("91" in s.text for s in samples(found))


@settings(max_examples=30)
@given(tensors, tensors)
def test_samples_of_any_model_can_be_read(inputs: list[Object], outputs: list[Object]) -> None:
    """Whatever tensors are called: each is one program, with no word of a name outside a text."""
    for sample in samples(page(inputs, outputs)):
        if sample.shell:
            done = subprocess.run(
                ["/bin/sh", "-n"], input=sample.text, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        else:
            tree = ast.parse(sample.text)
            assert calls(tree) == calls(ast.parse(plain(sample.language, inputs, outputs)))


def calls(tree: ast.AST) -> list[str]:
    """Return what a program calls, in order."""
    return [ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)]


def plain(language: Language, inputs: list[Object], outputs: list[Object]) -> str:
    """Return the sample of the same model where the tensors have plain names."""

    def renamed(given: list[Object]) -> list[Object]:
        return [{**t, "name": f"t{n}"} for n, t in enumerate(given)]

    found = samples(page(renamed(inputs), renamed(outputs)))
    return next(s.text for s in found if s.language is language)


@given(small_tensors)
def test_every_datatype_has_an_example(one: Object) -> None:
    texts = {s.language: s.text for s in samples(page([one], [one]))}
    assert f'"{one["datatype"]}"' in texts[Language.GRPC]
    compile(texts[Language.GRPC], "sample", "exec")


def test_the_kit_refuses_what_triton_refuses() -> None:
    tensor_of: Any = page([tensor("x", "FP32", 4)]).inputs[0]
    served = Served("vision/answers", "digits", [tensor_of], [tensor_of], 8)
    for wrong in (
        {"x": ("FP32", [1, 5])},
        {"x": ("FP32", [9, 4])},
        {"x": ("FP64", [1, 4])},
        {"y": ("FP32", [1, 4])},
        {},
    ):
        with pytest.raises(Exception, match=r"expected|unexpected|is FP32"):
            served.check(wrong)
    assert Datatype(tensor_of.datatype) is Datatype.FP32
