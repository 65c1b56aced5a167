"""Programs that ask a service, and run as they stand with a key in the environment's ``KEY``."""

import json
import math
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from conch.api.model import Datatype, Tensor
from conch.frontdoor import example
from conch.frontdoor.example import Example
from conch.frontdoor.page import ServicePage

METADATA = "conch-service"
"""gRPC metadata that names a service: NAMESPACE/SERVICE."""

_SHELL_KEY = '"Authorization: Bearer $KEY"'
_PYTHON_KEY = "f\"Bearer {os.environ['KEY']}\""


class Language(StrEnum):
    """Identifier of a sample."""

    CURL = "curl"
    URLLIB = "python-urllib"
    HTTP = "python-http"
    GRPC = "python-grpc"


@dataclass(frozen=True)
class Sample:
    """A program of one file."""

    language: Language
    title: str
    text: str

    @property
    def shell(self) -> bool:
        """Whether it is for sh, not for Python."""
        return self.language is Language.CURL


def samples(page: ServicePage) -> tuple[Sample, ...]:
    """Return the samples of a service; where its tensors are not known, they ask for those."""
    return (
        Sample(Language.CURL, "curl", _text(_curl(page))),
        Sample(Language.URLLIB, "Python, nothing to install", _text(_urllib(page))),
        Sample(Language.HTTP, "Python, Triton's client over HTTP", _text(_http(page))),
        Sample(Language.GRPC, "Python, Triton's client over gRPC", _text(_grpc(page))),
    )


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _literal(text: str) -> str:
    """Return a text as Python has it."""
    plain = text.isprintable() and not set(text) & {'"', "\\"}
    return f'"{text}"' if plain else repr(text)


def _patience(page: ServicePage) -> int:
    """Return seconds to wait for an answer, the wait for a replica included."""
    return max(1, math.ceil(page.bounds.patience))


def _model_url(page: ServicePage) -> str:
    return f"{page.url}/v2/models/{page.model}"


def _infer_url(page: ServicePage) -> str:
    return f"{_model_url(page)}/infer"


def _curl(page: ServicePage) -> Iterable[str]:
    if not page.described:
        return [" \\\n  ".join(_curl_words(page, _model_url(page)))]
    words = _curl_words(page, _infer_url(page))
    if not example.answered_in_json(page):
        words.append("--output answer.bin")
    body = json.dumps(example.request(page))
    if example.in_json(page):
        kind = "-H 'Content-Type: application/json'"
        return [" \\\n  ".join([*words, kind, "-d @- <<'END'"]), body, "END"]
    return _curl_bytes(words, body, sum(e.size for e in example.examples(page)))


def _curl_words(page: ServicePage, url: str) -> list[str]:
    key = [f"-H {_SHELL_KEY}"] if page.keys else []
    return [f"curl -sS {shlex.quote(url)} --max-time {_patience(page)}", *key]


def _curl_bytes(words: list[str], body: str, size: int) -> Iterable[str]:
    """Yield a request whose inputs follow the JSON as bytes, all zero."""
    yield "{"
    yield f"  printf %s {shlex.quote(body)}"
    yield f"  head -c {size} /dev/zero"
    kind = "-H 'Content-Type: application/octet-stream'"
    length = f"-H 'Inference-Header-Content-Length: {len(body)}'"
    yield "} | " + " \\\n  ".join([*words, kind, length, "--data-binary @-"])


def _urllib(page: ServicePage) -> Iterable[str]:
    yield "import json"
    if page.keys:
        yield "import os"
    yield "import urllib.request"
    yield ""
    if page.described:
        yield from _urllib_question(page)
    else:
        yield from _urllib_call(page, _model_url(page), [])
        yield "    print(json.load(answer))"


def _urllib_question(page: ServicePage) -> Iterable[str]:
    plain = example.in_json(page)
    yield from _question(page, plain=plain)
    if plain:
        yield "body = json.dumps(question).encode()"
        headers = ['"Content-Type": "application/json"']
    else:
        yield "head = json.dumps(question).encode()"
        sizes = " + ".join(f"bytes({e.size})" for e in example.examples(page))
        yield f"body = head + {sizes}  # the inputs' values, little-endian"
        headers = [
            '"Content-Type": "application/octet-stream"',
            '"Inference-Header-Content-Length": str(len(head))',
        ]
    yield from _urllib_call(page, _infer_url(page), headers, data="body")
    if example.answered_in_json(page):
        yield "    told = json.load(answer)"
    else:
        yield '    told = json.loads(answer.read(int(answer.headers["Inference-Header-Content-Length"])))'
        yield "    values = answer.read()  # of outputs with a binary_data_size, in their order"
    yield 'for output in told["outputs"]:'
    yield '    print(output["name"], output["shape"], output.get("data", output["datatype"]))'


def _question(page: ServicePage, *, plain: bool) -> Iterable[str]:
    yield "question = {"
    yield '    "inputs": ['
    for one in example.examples(page):
        value = (
            f'"data": [{_element(one)}] * {one.count}'
            if plain
            else f'"parameters": {{"binary_data_size": {one.size}}}'
        )
        yield (
            f'        {{"name": {_literal(one.name)}, "datatype": "{one.datatype}", '
            f'"shape": {[*one.shape]}, {value}}},'
        )
    yield "    ],"
    if not example.answered_in_json(page):
        yield f'    "outputs": [{", ".join(map(_wanted, page.outputs))}],'
    yield "}"


def _element(one: Example) -> str:
    return _literal(one.element) if isinstance(one.element, str) else repr(one.element)


def _wanted(output: Tensor) -> str:
    raw = ', "parameters": {"binary_data": True}' if example.bytes_only(output) else ""
    return f'{{"name": {_literal(output.name)}{raw}}}'


def _urllib_call(
    page: ServicePage, url: str, headers: list[str], *, data: str | None = None
) -> Iterable[str]:
    key = [f'"Authorization": {_PYTHON_KEY}'] if page.keys else []
    yield "request = urllib.request.Request("
    yield f"    {_literal(url)},"
    if data:
        yield f"    data={data},"
    if key or headers:
        yield f"    headers={{{', '.join([*headers, *key])}}},"
    yield ")"
    yield f"with urllib.request.urlopen(request, timeout={_patience(page)}) as answer:"


def _http(page: ServicePage) -> Iterable[str]:
    yield from _triton_head(page, "http")
    _, _, address = page.url.partition("://")
    yield "client = triton.InferenceServerClient("
    secure = ", ssl=True" if page.secure else ""
    yield f"    {_literal(address)}, network_timeout={_patience(page)}{secure}"
    yield ")"
    yield f"headers = {{{_key_item(page)}}}"
    yield from _triton_call(page, "")


def _grpc(page: ServicePage) -> Iterable[str]:
    yield from _triton_head(page, "grpc")
    secure = ", ssl=True" if page.secure else ""
    yield f"client = triton.InferenceServerClient({_literal(page.grpc)}{secure})"
    items = [f'"{METADATA}": {_literal(page.title)}', *([_key_item(page)] if page.keys else [])]
    yield f"headers = {{{', '.join(items)}}}"
    yield from _triton_call(page, f", client_timeout={_patience(page)}")


def _key_item(page: ServicePage) -> str:
    return f'"authorization": {_PYTHON_KEY}' if page.keys else ""


def _triton_head(page: ServicePage, protocol: str) -> Iterable[str]:
    bfloat = page.described and any(t.datatype is Datatype.BF16 for t in page.inputs)
    yield f"# pip install 'tritonclient[{protocol}]'"
    if page.keys:
        yield "import os"
        yield ""
    if bfloat:
        yield "import ml_dtypes"
    if page.described:
        yield "import numpy as np"
    yield f"import tritonclient.{protocol} as triton"
    yield ""


def _triton_call(page: ServicePage, timeout: str) -> Iterable[str]:
    if not page.described:
        yield f"print(client.get_model_metadata({_literal(page.model)}, headers=headers{timeout}))"
        return
    yield "inputs = []"
    yield "for name, datatype, value in ["
    for one in example.examples(page):
        yield f'    ({_literal(one.name)}, "{one.datatype}", {_value(one)}),'
    yield "]:"
    yield "    tensor = triton.InferInput(name, list(value.shape), datatype)"
    yield "    tensor.set_data_from_numpy(value)"
    yield "    inputs.append(tensor)"
    yield f"answer = client.infer({_literal(page.model)}, inputs, headers=headers{timeout})"
    names = ", ".join(_literal(t.name) for t in page.outputs)
    yield f"for name in [{names}]:"
    yield "    print(name, answer.as_numpy(name))"


def _value(one: Example) -> str:
    element = f"b{_element(one)}" if isinstance(one.element, str) else _element(one)
    return f"np.full({[*one.shape]}, {element}, {one.numpy})"
