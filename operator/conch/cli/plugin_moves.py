"""``kubectl conch migrate`` and ``drain``: another replica answers elsewhere before one goes."""

import asyncio
import secrets
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from conch.api.base import parse_duration
from conch.api.migration import MoveReason, Phase
from conch.api.names import LABEL_SERVICE, LABEL_SERVING, SERVING
from conch.cli.plugin_target import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    PluginError,
    ServiceArgument,
    Target,
    service_of,
)
from conch.clients.clock import SystemClock
from conch.clients.cluster import MERGE_PATCH, Cluster, Object
from conch.decisions.fleet import ServiceKey
from conch.reconcile.migrations import KIND, manifest
from conch.reconcile.views import condition

_LOOK_S = 0.5
"""Between two looks at what is awaited."""
TimeoutOption = Annotated[
    str, typer.Option(help="how long to wait; what was begun goes on all the same")
]


def migrate_command(
    *,
    service: ServiceArgument,
    to: Annotated[
        str | None,
        typer.Option(
            help="a node or a GPUPool; unset: any other node with room",
            metavar="NODE|POOL",
            show_default=False,
        ),
    ] = None,
    replica: Annotated[
        str | None,
        typer.Option(help="pod that leaves; unset: the oldest", metavar="POD", show_default=False),
    ] = None,
    because: Annotated[
        str | None, typer.Option(help="why, for those who look at it later", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option(help="return once it is over")] = True,
    timeout: TimeoutOption = "30m",
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Move one replica of a service: another answers there first."""
    target, limit = Target(kubeconfig, context, namespace), _seconds(timeout)
    where = target.resolved_namespace()

    async def work(cluster: Cluster) -> None:
        owner = await service_of(cluster, where, service)
        spec = {
            "service": service,
            "reason": MoveReason.REQUESTED,
            **({"replica": replica} if replica else {}),
            **({"because": because} if because else {}),
            **({"to": await _target(cluster, to)} if to else {}),
        }
        made = await cluster.create(_migration(owner, spec))
        name = made["metadata"]["name"]
        print(f"modelmigration.conch.dev/{name} created")
        if wait:
            await _follow(cluster, where, name, limit)

    target.run(work)


def drain_command(
    node: Annotated[str, typer.Argument(help="name of a node", metavar="NODE")],
    wait: Annotated[bool, typer.Option(help="return once no replica is left")] = True,
    timeout: TimeoutOption = "30m",
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Cordon a node and wait until the replicas there have moved; other pods stay."""
    limit = _seconds(timeout)

    async def work(cluster: Cluster) -> None:
        found = await cluster.get("Node", node)
        if found is None:
            raise PluginError(f"node {node!r} not found")
        if found["spec"].get("unschedulable"):
            print(f"node/{node} already cordoned")
        else:
            body = {"spec": {"unschedulable": True}}
            await cluster.patch("Node", node, None, body, content_type=MERGE_PATCH)
            print(f"node/{node} cordoned")
        if wait:
            await _emptied(cluster, node, limit)

    Target(kubeconfig, context).run(work)


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise PluginError(f"--timeout: {error}") from error


async def _target(cluster: Cluster, name: str) -> Object:
    """Return what a name means: a pool's comes first. Raises PluginError where it means nothing."""
    if await cluster.get("GPUPool", name) is not None:
        return {"pool": name}
    if await cluster.get("Node", name) is not None:
        return {"node": name}
    pools = ", ".join(p["metadata"]["name"] for p in await cluster.list("GPUPool")) or "none"
    raise PluginError(f"there is no GPUPool and no node {name!r}; pools: {pools}")


def _migration(service: Object, spec: Object) -> Object:
    metadata = service["metadata"]
    key = ServiceKey(metadata["namespace"], metadata["name"])
    return manifest(key, metadata["uid"], f"{key.name}-{secrets.token_hex(3)}", spec)


async def _follow(cluster: Cluster, namespace: str, name: str, limit: float) -> None:
    """Print each phase once; return once it is done. Raises PluginError for any other end."""
    clock, told = SystemClock(), None
    until = clock.monotonic() + limit
    while clock.monotonic() < until:
        found = await cluster.get(KIND, name, namespace)
        if found is None:
            raise PluginError(f"{name} was deleted: the move is taken back")
        status: Any = found.get("status") or {}
        words = status.get("phase"), status.get("message")
        if words != told and words[0] is not None:
            print(f"{words[0]}: {words[1]}")
            told = words
        if words[0] == Phase.ROLLED_BACK:
            raise PluginError(f"{name} was not done: {words[1]}")
        if words[0] == Phase.DONE:
            return
        await asyncio.sleep(_LOOK_S)
    phase = told[0] if told else "not begun: does an operator run?"
    raise PluginError(
        f"{name} is not over after {limit:g} s ({phase}); it goes on: kubectl get mmig -n {namespace}"
    )


async def _emptied(cluster: Cluster, node: str, limit: float) -> None:
    """Print who leaves, and what keeps who stays; return once none is left."""
    clock, known = SystemClock(), set[str]()
    until, words = clock.monotonic() + limit, dict[tuple[str, str], str]()
    while True:
        pods = await _replicas_on(cluster, node)
        names = {f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in pods}
        for gone in sorted(known - names):
            print(f"{gone} has moved")
        known = names
        if not pods:
            print(f"node/{node} has no replica left; for all else: kubectl drain {node}")
            return
        await _say_why(cluster, pods, words)
        if clock.monotonic() >= until:
            left = ", ".join(sorted(names))
            raise PluginError(f"not left within {limit:g} s: {left}; kubectl uncordon {node}")
        await asyncio.sleep(_LOOK_S)


async def _replicas_on(cluster: Cluster, node: str) -> list[Object]:
    pods = await cluster.list("Pod", selector=LABEL_SERVICE, fields=f"spec.nodeName={node}")
    return [p for p in pods if _answers(p)]


def _answers(pod: Object) -> bool:
    """Tell whether a pod has callers: others go with an eviction at once."""
    serving = (pod["metadata"].get("labels") or {}).get(LABEL_SERVING) == SERVING
    return serving and condition(pod, "Ready").get("status") == "True"


async def _say_why(
    cluster: Cluster, pods: Iterable[Object], told: dict[tuple[str, str], str]
) -> None:
    """Print what each service says of its move, once."""
    for namespace, name in sorted({_service(p) for p in pods}):
        service = await cluster.get("ModelService", name, namespace)
        moving = condition(service or {}, "Reconciling")
        text = moving.get("message", "") if moving.get("reason") == "Moving" else ""
        if text and told.get((namespace, name)) != text:
            told[namespace, name] = text
            print(f"{namespace}/{name}: {text}", file=sys.stderr)


def _service(pod: Object) -> tuple[str, str]:
    metadata = pod["metadata"]
    return metadata["namespace"], metadata["labels"][LABEL_SERVICE]
