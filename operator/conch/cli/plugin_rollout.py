"""``kubectl conch rollout``: how a new revision takes over, and what only people may decide of it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import typer

from conch.api.names import ANNOTATION_ROLLOUT, LABEL_REVISION, LABEL_SERVICE
from conch.api.rollout import RolloutPhase
from conch.cli.plugin_detach import annotate
from conch.cli.plugin_target import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    PluginError,
    ServiceArgument,
    Target,
    service_of,
)
from conch.clients.cluster import Cluster, Object
from conch.decisions.rolling import Order

rollout_app = typer.Typer(
    no_args_is_help=True, help="New revisions: how far they have come, and what to do about them."
)


@rollout_app.command("status")
def status_command(
    service: ServiceArgument,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Tell how the last new revision stands; exits with 1 where it was taken back."""
    target = Target(kubeconfig, context, namespace)
    where = target.resolved_namespace()

    async def work(cluster: Cluster) -> Object:
        return await service_of(cluster, where, service)

    found = target.run(work)
    told = _rollout(found)
    for line in described(found):
        print(line)
    if told is not None and told["phase"] == RolloutPhase.ROLLED_BACK:
        raise typer.Exit(1)


@rollout_app.command("history")
def history_command(
    service: ServiceArgument,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """List the revisions that are kept, the newest last."""
    target = Target(kubeconfig, context, namespace)
    where = target.resolved_namespace()

    async def work(cluster: Cluster) -> tuple[Object, list[Object]]:
        found = await service_of(cluster, where, service)
        selector = f"{LABEL_SERVICE}={service}"
        kept = await cluster.list("ControllerRevision", namespace=where, selector=selector)
        return found, kept

    for line in history(*target.run(work)):
        print(line)


@rollout_app.command("promote")
def promote_command(
    service: ServiceArgument,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Let a new revision take over as soon as all its replicas answer, without judging it further."""
    _order(Target(kubeconfig, context, namespace), service, Order.PROMOTE)


@rollout_app.command("abort")
def abort_command(
    service: ServiceArgument,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Take a new revision back; the one before serves on."""
    _order(Target(kubeconfig, context, namespace), service, Order.ABORT)


@rollout_app.command("pause")
def pause_command(
    service: ServiceArgument,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Leave a new revision at its step."""
    _order(Target(kubeconfig, context, namespace), service, Order.PAUSE)


@rollout_app.command("resume")
def resume_command(
    service: ServiceArgument,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Go on with a rollout that was paused."""
    target = Target(kubeconfig, context, namespace)
    where = target.resolved_namespace()

    async def work(cluster: Cluster) -> str:
        found = await service_of(cluster, where, service)
        asked = (found["metadata"].get("annotations") or {}).get(ANNOTATION_ROLLOUT, "")
        if not str(asked).startswith(f"{Order.PAUSE}/"):
            return "was not paused"
        await annotate(cluster, where, service, {ANNOTATION_ROLLOUT: None})
        return "resumed"

    print(f"{where}/{service}: {target.run(work)}")


def _order(target: Target, service: str, order: Order) -> None:
    where = target.resolved_namespace()

    async def work(cluster: Cluster) -> str:
        found = await service_of(cluster, where, service)
        told = _rollout(found)
        over = (RolloutPhase.DONE, RolloutPhase.ROLLED_BACK)
        again = order is Order.PROMOTE and told and told["phase"] == RolloutPhase.ROLLED_BACK
        if told is None or (told["phase"] in over and not again):
            raise PluginError(f"{where}/{service}: no new revision is on its way")
        await annotate(cluster, where, service, {ANNOTATION_ROLLOUT: f"{order}/{told['revision']}"})
        return f"{order} of revision {told['revision']} is asked for"

    print(f"{where}/{service}: {target.run(work)}")


def _rollout(service: Object) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = (service.get("status") or {}).get("rollout")
    return found


def described(service: Object) -> Iterable[str]:
    """Yield what is to be told of a service's rollout."""
    told, status = _rollout(service), service.get("status") or {}
    if told is None:
        yield f"revision {status.get('revision', 'none')} serves; no other has come since"
        return
    yield f"revision {told['revision']}: {told['phase']}, since {told['since']}"
    if told.get("stable"):
        yield f"it replaces {told['stable']}; {status.get('revision', 'none')} has the traffic"
    if told.get("percent"):
        yield f"it gets {told['percent']:g} % of the requests"
    yield told["message"]


def history(service: Object, revisions: Iterable[Object]) -> Iterable[str]:
    """Yield a line for each revision that is kept."""
    serving = (service.get("status") or {}).get("revision")
    number: Callable[[Object], int] = lambda r: int(r.get("revision", 0))  # noqa: E731
    yield f"{'REVISION':<14} {'NUMBER':>6}  {'SINCE':<20} VARIANT"
    for one in sorted(revisions, key=number):
        metadata = one["metadata"]
        name = metadata["labels"].get(LABEL_REVISION, "")
        variant = ((one.get("data") or {}).get("variant") or {}).get("name", "")
        mark = "  <- has the traffic" if name == serving else ""
        yield f"{name:<14} {number(one):>6}  {metadata['creationTimestamp']:<20} {variant}{mark}"
