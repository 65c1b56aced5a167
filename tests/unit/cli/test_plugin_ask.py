"""``kubectl conch ask``: what is sent suits the model, and what comes back is told."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
import requests

from conch.cli.plugin_ask import _complaint, _send, question, shown
from conch.cli.plugin_target import PluginError
from conch.frontdoor.page import Addresses, page_of
from tests.kit.kserve import ModelServer, Served
from tests.unit.frontdoor.callers import ADDRESSES, Object, page, service

KEY = "conch_0123456789abcdef"


def ask(
    inputs: Sequence[Object], outputs: Sequence[Object], *, key: str | None = KEY, **more: Any
) -> requests.Response:
    found = page(inputs, outputs)
    served = Served("vision/answers", "digits", found.inputs, found.outputs, 8, KEY)
    with ModelServer(served) as server:
        here = page(inputs, outputs, addresses=Addresses(server.url, server.grpc), **more)
        return _send(question(here, key))


def tensor(name: str, datatype: str, *shape: int) -> Object:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


@pytest.mark.parametrize(
    ("inputs", "outputs", "told"),
    [
        ([tensor("x", "FP32", 4)], [tensor("y", "FP32", 2)], "y FP32 [1, 2]: 0, 0"),
        ([tensor("x", "FP16", 4)], [tensor("y", "FP16", 2)], "y FP16 [1, 2]: bytes"),
        ([tensor("x", "BYTES", 1)], [tensor("y", "BYTES", 1)], 'y BYTES [1, 2]: "", ""'),
        (
            [tensor("x", "FP32", 3, 224, 224)],
            [tensor("y", "INT8", 12)],
            f"y INT8 [1, 12]: {', '.join(['0'] * 10)}, …",
        ),
    ],
)
def test_the_example_is_answered(
    inputs: Sequence[Object], outputs: Sequence[Object], told: str
) -> None:
    answer = ask(inputs, outputs)
    assert answer.status_code == 200, answer.text
    length = answer.headers.get("Inference-Header-Content-Length")
    lines = list(shown(answer.content, length))
    assert lines == [told]


def test_a_refusal_is_told_in_its_own_words() -> None:
    answer = ask([tensor("x", "FP32", 4)], [tensor("y", "FP32", 2)], key=None)
    assert answer.status_code == 401
    assert _complaint(answer) == "no valid key"


@pytest.mark.parametrize(
    ("body", "headers", "told"),
    [
        ('{"error": "wait"}', {"Retry-After": "5"}, "wait; ask again in 5 s"),
        ("<html>", {}, "<html>"),
        ("", {}, "Gone"),
        ("[]", {}, "[]"),
    ],
)
def test_refusals_of_any_form(body: str, headers: dict[str, str], told: str) -> None:
    answer = requests.Response()
    answer.status_code, answer.reason = 410, "Gone"
    answer._content = body.encode()
    answer.headers.update(headers)
    assert _complaint(answer) == told


def test_no_key_is_sent_where_there_is_none() -> None:
    assert "Authorization" not in question(page(), None).headers
    assert question(page(), KEY).headers["Authorization"] == f"Bearer {KEY}"
    assert json.loads(question(page(), KEY).body)["inputs"][0]["name"] == "image"


def test_an_unknown_model_has_no_example() -> None:
    with pytest.raises(PluginError, match="no Model digits"):
        question(page_of(service(), None, ADDRESSES), None)


def test_what_does_not_answer_is_told_with_what_to_do() -> None:
    nowhere = Addresses("http://127.0.0.1:1", "")
    with pytest.raises(PluginError, match="port-forward"):
        _send(question(page(addresses=nowhere), None))
