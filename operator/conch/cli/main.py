"""``conch``: the operator, and what its pods run."""

import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from conch import __version__
from conch.cli.cache import cache_command
from conch.cli.digest import digest_command
from conch.cli.fetch import fetch_command
from conch.cli.front_door import front_door_command

if TYPE_CHECKING:  # `conch fetch` starts without it
    from conch.reconcile.settings import FrontDoor, Planning

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Conch, a Kubernetes operator for model services.",
)
app.command("digest")(digest_command)
app.command("cache")(cache_command)
app.command("front-door")(front_door_command)

T = TypeVar("T")

TRITON_IMAGE = "nvcr.io/nvidia/tritonserver:24.10-py3"
CONCH_IMAGE = f"ghcr.io/conch-dev/conch:{__version__}"


@app.command(
    "fetch",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def fetch_words(context: typer.Context) -> None:
    """Fetch a model's files into a Triton model repository."""
    fetch_command(context.args)


@app.command("version")
def version_command() -> None:
    """Print the version."""
    print(__version__)


@app.command("run")
def run_command(
    *,
    kubeconfig: Annotated[
        str | None, typer.Option(help="unset: the pod's own account, or KUBECONFIG")
    ] = None,
    prometheus_url: Annotated[
        str | None, typer.Option(help="unset: no metrics, so nothing is scaled by load")
    ] = None,
    triton_image: Annotated[
        str, typer.Option(help="for services that name none in spec.triton.image")
    ] = TRITON_IMAGE,
    triton_arg: Annotated[
        list[str] | None,
        typer.Option(help="an argument of Triton, before those of spec.triton.args; repeatable"),
    ] = None,
    triton_env: Annotated[
        list[str] | None,
        typer.Option(
            help="a variable of model pods, NAME=VALUE, unless podTemplate.env has it; repeatable"
        ),
    ] = None,
    fetch_image: Annotated[
        str, typer.Option(help="the Conch image, whose `conch fetch` brings models into pods")
    ] = CONCH_IMAGE,
    lease_namespace: Annotated[
        str, typer.Option(envvar="POD_NAMESPACE", help="where the leader's Lease is")
    ] = "conch-system",
    lease_name: Annotated[str, typer.Option()] = "conch-operator",
    tick_seconds: Annotated[
        float, typer.Option(min=0.2, help="how often metrics are asked for")
    ] = 5.0,
    relist_seconds: Annotated[
        float, typer.Option(min=1, help="how often every kind is listed afresh")
    ] = 60.0,
    planner: Annotated[
        str,
        typer.Option(
            help="what the planner of migrations may do: on, propose (say what it would move) or off"
        ),
    ] = "on",
    node_sign: Annotated[
        list[str] | None,
        typer.Option(
            help="a condition of nodes that is a sign of failing, or none: TYPE=True, TYPE=False or "
            "TYPE=ignore; beside those of well-known agents; repeatable"
        ),
    ] = None,
    file_source_prefix: Annotated[
        list[str] | None,
        typer.Option(help="a directory of the nodes that file:// sources may name; repeatable"),
    ] = None,
    source_endpoint: Annotated[
        list[str] | None,
        typer.Option(
            help="where sources are downloaded from: s3=URL, gs=URL, hf=URL or oci/REGISTRY=URL; "
            "repeatable"
        ),
    ] = None,
    cache_path: Annotated[
        str | None,
        typer.Option(
            help="the directory of the nodes that `conch cache` keeps; unset: models are "
            "downloaded at each start"
        ),
    ] = None,
    dra: Annotated[
        bool, typer.Option("--dra", help="let GPUPools be of mode DRA, and read ResourceSlices")
    ] = False,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            help="mark model pods for another controller: kueue[=QUEUE], kai[=QUEUE], "
            "karpenter=DURATION, priority-classes, cluster-autoscaler or descheduler; repeatable"
        ),
    ] = None,
    usage_half_life: Annotated[
        float,
        typer.Option(min=1, help="seconds after which what a tenant held counts half against it"),
    ] = 43200.0,
    front_door_url: Annotated[
        str | None,
        typer.Option(
            help="where callers reach the front door, such as http://HOST; unset: there is none"
        ),
    ] = None,
    front_door_grpc: Annotated[
        str | None, typer.Option(help="where they reach it over gRPC: HOST:PORT")
    ] = None,
    front_door_domain: Annotated[
        str | None,
        typer.Option(help="in which each service has the host SERVICE.NAMESPACE.DOMAIN"),
    ] = None,
    isolate: Annotated[
        bool,
        typer.Option(
            "--isolate",
            help="let model pods take requests from the front door alone, by NetworkPolicies",
        ),
    ] = False,
    metrics_namespace: Annotated[
        list[str] | None,
        typer.Option(
            help="a namespace whose pods may scrape isolated model pods; unset: any; repeatable"
        ),
    ] = None,
    health_address: Annotated[
        str | None, typer.Option(help="of the liveness probe, such as http://0.0.0.0:8080/healthz")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="of the operator's own metrics; unset: none")
    ] = None,
    log_level: Annotated[str, typer.Option()] = "INFO",
) -> None:
    """Run the operator."""
    # Here, so that `conch fetch` starts without them, on its share of a CPU.
    import asyncio  # noqa: PLC0415
    import logging  # noqa: PLC0415
    import socket  # noqa: PLC0415
    import uuid  # noqa: PLC0415

    from conch.handlers import process  # noqa: PLC0415
    from conch.provisioning.coexistence import coexistence  # noqa: PLC0415
    from conch.provisioning.snapshot import Images  # noqa: PLC0415
    from conch.reconcile import garbage  # noqa: PLC0415
    from conch.reconcile.node_signs import node_signs  # noqa: PLC0415
    from conch.reconcile.settings import Settings  # noqa: PLC0415

    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for other in ("kopf", "aiohttp.access"):  # the latter tells of each probe
        logging.getLogger(other).setLevel(logging.WARNING)
    # It warns that the signals are not its own, which is meant so.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    settings = Settings(
        images=Images(
            triton=triton_image,
            conch=fetch_image,
            triton_args=tuple(triton_arg or ()),
            triton_env=variables(triton_env or ()),
        ),
        prometheus_url=prometheus_url,
        lease_namespace=lease_namespace,
        lease_name=lease_name,
        identity=f"{os.environ.get('POD_NAME') or socket.gethostname()}-{uuid.uuid4().hex[:8]}",
        tick_seconds=tick_seconds,
        relist_seconds=relist_seconds,
        planning=_planning(planner),
        node_signs=_told(node_signs, node_sign or ()),
        file_prefixes=tuple(file_source_prefix or ()),
        endpoints=variables(source_endpoint or ()),
        cache_path=cache_path,
        usage_half_life=usage_half_life,
        dra=dra,
        others=_told(coexistence, beside or ()),
        front_door=_front_door(
            front_door_url,
            front_door_grpc,
            domain=front_door_domain,
            isolate=isolate,
            metrics_namespaces=metrics_namespace or (),
        ),
    )
    garbage.settle()
    endpoints = process.Endpoints(health=health_address, metrics_port=metrics_port)
    try:
        asyncio.run(process.run(settings, kubeconfig=kubeconfig, endpoints=endpoints))
    except* Exception as group:
        logging.getLogger("conch").exception("ended: %s", "; ".join(map(str, group.exceptions)))
        sys.exit(1)


def _planning(word: str) -> "Planning":
    from conch.reconcile.settings import Planning  # noqa: PLC0415

    try:
        return Planning(word)
    except ValueError:
        raise typer.BadParameter(f"--planner: {word!r} is not on, propose or off") from None


def _front_door(
    url: str | None,
    grpc: str | None,
    *,
    domain: str | None,
    isolate: bool,
    metrics_namespaces: Iterable[str],
) -> "FrontDoor | None":
    """Return the front door that options name. Raises typer.BadParameter where they name half of one."""
    from conch.reconcile.settings import FrontDoor  # noqa: PLC0415

    if url is None or grpc is None:
        if url or grpc or domain or isolate:
            raise typer.BadParameter(
                "a front door has both --front-door-url and --front-door-grpc; without one there is "
                "no --front-door-domain and no --isolate"
            )
        return None
    try:
        return FrontDoor(url.rstrip("/"), grpc, domain, isolate, tuple(metrics_namespaces))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _told(read: Callable[[Iterable[str]], T], words: Iterable[str]) -> T:
    """Return what words of the command line say. Raises typer.BadParameter where they say nothing."""
    try:
        return read(words)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def variables(texts: Iterable[str]) -> dict[str, str]:
    """Return what ``NAME=VALUE`` texts set. Raises typer.BadParameter where one is none."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{text!r} is not of the form NAME=VALUE")
        found[name] = value
    return found


if __name__ == "__main__":
    app()
