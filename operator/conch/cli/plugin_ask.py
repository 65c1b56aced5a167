"""``kubectl conch ask``: one request to a service, as its page has it, and what came of it."""

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import requests
import typer

from conch.cli.plugin_target import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    PluginError,
    Target,
    service_of,
)
from conch.clients.clock import SystemClock
from conch.clients.cluster import Cluster
from conch.frontdoor import example
from conch.frontdoor.page import Addresses, ServicePage, page_of

_CONNECT_S = 5.0
_OK = 200
_SHOWN = 10
"""Values of an output that are printed."""
_LENGTH = "Inference-Header-Content-Length"
_FROM_OUTSIDE = (
    "from outside the cluster: kubectl port-forward -n NAMESPACE service/conch-front-door 8080:80, "
    "and --url http://127.0.0.1:8080"
)


@dataclass(frozen=True)
class Question:
    """A request, ready to be sent."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    patience: float
    """Seconds."""


def ask_command(
    *,
    service: Annotated[str, typer.Argument(help="name of a ModelService", metavar="SERVICE")],
    namespace: NamespaceOption = None,
    key: Annotated[
        str | None,
        typer.Option("--key", envvar="KEY", help="a key that may ask it", show_default=False),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help="where the front door is reached; unset: the service's status.url",
            show_default=False,
        ),
    ] = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Ask a service its example, and print the answer and how long it took."""
    target = Target(kubeconfig, context, namespace)
    where = target.resolved_namespace()

    async def work(cluster: Cluster) -> ServicePage:
        return await _page(cluster, where, service, url)

    asked = question(target.run(work), key)
    clock = SystemClock()
    began = clock.monotonic()
    answer = _send(asked)
    took = clock.monotonic() - began
    print(f"{asked.url}: {answer.status_code} in {took * 1e3:.1f} ms", file=sys.stderr)
    if answer.status_code != _OK:
        raise PluginError(_complaint(answer))
    for line in shown(answer.content, answer.headers.get(_LENGTH)):
        print(line)


async def _page(cluster: Cluster, namespace: str, name: str, url: str | None) -> ServicePage:
    """Return the service's page. Raises PluginError, ClusterError."""
    body = await service_of(cluster, namespace, name)
    reference = body["spec"]["model"]
    kind = reference.get("kind", "Model")
    model = await cluster.get(kind, reference["name"], namespace if kind == "Model" else None)
    address = url or (body.get("status") or {}).get("url")
    if not address:
        raise PluginError(f"{namespace}/{name} has no address yet: kubectl conch explain {name}")
    return page_of(body, model, Addresses(address, "", own_host=url is None))


def question(page: ServicePage, key: str | None) -> Question:
    """Return the request of a page's example. Raises PluginError where there is none."""
    if page.note is not None:
        raise PluginError(f"{page.title} can't be asked an example: {page.note}")
    head = json.dumps(example.request(page)).encode()
    kind, tail = "application/json", b""
    lengths: dict[str, str] = {}
    if not example.in_json(page):
        kind, lengths = "application/octet-stream", {_LENGTH: str(len(head))}
        tail = bytes(sum(e.size for e in example.examples(page)))
    credentials = {"Authorization": f"Bearer {key}"} if key else {}
    return Question(
        url=f"{page.url}/v2/models/{page.model}/infer",
        headers={"Content-Type": kind, **lengths, **credentials},
        body=head + tail,
        patience=math.ceil(page.bounds.patience),
    )


def _send(asked: Question) -> requests.Response:
    try:
        return requests.post(
            asked.url,
            data=asked.body,
            headers=dict(asked.headers),
            timeout=(_CONNECT_S, asked.patience),
        )
    except requests.RequestException as error:
        raise PluginError(f"{asked.url} does not answer: {error}; {_FROM_OUTSIDE}") from error


def _complaint(answer: requests.Response) -> str:
    """Return why a request was refused, in the words of whoever refused it."""
    try:
        told = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        told = answer.text.strip() or answer.reason
    later = answer.headers.get("Retry-After")
    return f"{told}" + (f"; ask again in {later} s" if later else "")


def shown(content: bytes, length: str | None) -> Iterable[str]:
    """Yield a line for each output of an answer; ``length`` is that of its JSON, where bytes follow."""
    told: dict[str, Any] = json.loads(content[: int(length)] if length else content)
    for output in told["outputs"]:
        values = output.get("data")
        text = "bytes" if values is None else _values(values)
        yield f"{output['name']} {output['datatype']} {output['shape']}: {text}"


def _values(values: list[Any]) -> str:
    more = ", …" if len(values) > _SHOWN else ""
    return ", ".join(json.dumps(v, ensure_ascii=False) for v in values[:_SHOWN]) + more
