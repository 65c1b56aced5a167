"""``kubectl conch rollout``: how a new revision takes over, and what only people may decide of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from conch.api.names import ANNOTATION_ROLLOUT, ANNOTATION_UNDO, LABEL_REVISION, LABEL_SERVICE
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
from conch.provisioning.metadata import bounded

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
        return found, await _kept(cluster, where, service)

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


@rollout_app.command("undo")
def undo_command(
    service: ServiceArgument,
    to_revision: Annotated[
        str | None,
        typer.Option(help="name or number of the revision to go back to, as history lists them"),
    ] = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Go back to the revision before, until another one is applied; undo again to take that back."""
    target = Target(kubeconfig, context, namespace)
    where = target.resolved_namespace()

    async def work(cluster: Cluster) -> str:
        found = await service_of(cluster, where, service)
        step = undo(found, await _kept(cluster, where, service), to_revision)
        await annotate(cluster, where, service, {ANNOTATION_UNDO: step.annotation})
        return step.text

    print(f"{where}/{service}: {target.run(work)}")


@dataclass(frozen=True)
class Undo:
    """What is to be written to go back, and what to say of it."""

    annotation: str | None
    """None: an earlier one is taken back."""
    text: str


def undo(service: Object, revisions: Iterable[Object], to: str | None) -> Undo:
    """Return how a service goes back to another revision.

    ``to`` is the name or number of the revision; None is the one before. Raises PluginError where
    there is nothing to go back to.
    """
    told, kept = _rollout(service) or {}, {_name(r): _number(r) for r in revisions}
    if told and not RolloutPhase(told["phase"]).over:
        raise PluginError("a new revision is on its way: kubectl conch rollout abort takes it back")
    undone = _undone(service)
    asked = undone or told.get("revision")
    back = (undone or told.get("stable")) if to is None else _named(kept, to)
    if asked is not None and back == asked != _serving(service):
        return Undo(None, f"revision {asked}, which is asked for, is to take over again")
    if back is not None and back == _serving(service):
        raise PluginError(f"revision {back} has the traffic already")
    if asked is None or back not in kept:
        which = back or to or "the one before"
        raise PluginError(f"{which} is not kept; kubectl conch rollout history lists what is")
    text = f"goes back to revision {back}, until another than {asked} is applied"
    return Undo(f"{asked}/{back}", text)


def _named(kept: Mapping[str, int], to: str) -> str | None:
    """Return the revision of a name or number."""
    return next((name for name, number in kept.items() if to in (name, str(number))), None)


def _undone(service: Object) -> str | None:
    """Return the revision that is asked for and that a person has undone, if so."""
    annotations = service["metadata"].get("annotations") or {}
    asked, _, back = str(annotations.get(ANNOTATION_UNDO, "")).partition("/")
    told = _rollout(service) or {}
    return asked if back and told.get("revision") == back else None


def _serving(service: Object) -> str | None:
    found: str | None = (service.get("status") or {}).get("revision")
    return found


async def _kept(cluster: Cluster, namespace: str, service: str) -> list[Object]:
    selector = f"{LABEL_SERVICE}={bounded(service)}"
    return await cluster.list("ControllerRevision", namespace=namespace, selector=selector)


def _order(target: Target, service: str, order: Order) -> None:
    where = target.resolved_namespace()

    async def work(cluster: Cluster) -> str:
        found = await service_of(cluster, where, service)
        told = _rollout(found)
        again = order is Order.PROMOTE and told and told["phase"] == RolloutPhase.ROLLED_BACK
        if told is None or (RolloutPhase(told["phase"]).over and not again):
            raise PluginError(f"{where}/{service}: no new revision is on its way")
        await annotate(cluster, where, service, {ANNOTATION_ROLLOUT: f"{order}/{told['revision']}"})
        return f"{order} of revision {told['revision']} is asked for"

    print(f"{where}/{service}: {target.run(work)}")


def _rollout(service: Object) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = (service.get("status") or {}).get("rollout")
    return found


def described(service: Object) -> Iterable[str]:
    """Yield what is to be told of a service's rollout."""
    told, serving, undone = _rollout(service), _serving(service) or "none", _undone(service)
    if undone is not None:
        yield f"revision {undone} is asked for, and undone until another one is applied"
    if told is None:
        yield f"revision {serving} serves; no other has come since"
        return
    yield f"revision {told['revision']}: {told['phase']}, since {told['since']}"
    if told.get("stable"):
        yield f"it replaces {told['stable']}; {serving} has the traffic"
    if told.get("percent"):
        yield f"it gets {told['percent']:g} % of the requests"
    yield told["message"]


def history(service: Object, revisions: Iterable[Object]) -> Iterable[str]:
    """Yield a line for each revision that is kept."""
    serving = _serving(service)
    yield f"{'REVISION':<14} {'NUMBER':>6}  {'SINCE':<20} VARIANT"
    for one in sorted(revisions, key=_number):
        metadata, name = one["metadata"], _name(one)
        variant = ((one.get("data") or {}).get("variant") or {}).get("name", "")
        mark = "  <- has the traffic" if name == serving else ""
        yield f"{name:<14} {_number(one):>6}  {metadata['creationTimestamp']:<20} {variant}{mark}"


def _name(revision: Object) -> str:
    name: str = revision["metadata"]["labels"].get(LABEL_REVISION, "")
    return name


def _number(revision: Object) -> int:
    return int(revision.get("revision", 0))
