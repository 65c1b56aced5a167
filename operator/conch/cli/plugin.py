"""``kubectl conch``: what Conch decided and why, and what only people may decide."""

import sys
from dataclasses import replace
from typing import Annotated

import typer
from kubernetes.aio.config.config_exception import ConfigException

from conch import __version__
from conch.api.names import ANNOTATION_PAUSED
from conch.cli import plugin_view as view
from conch.cli.digest import digest_command
from conch.cli.plugin_ask import ask_command
from conch.cli.plugin_detach import ANNOTATION_DETACHED, Change, Detaching, annotate
from conch.cli.plugin_explain import Explanation, explain, is_paused
from conch.cli.plugin_key_commands import key_app
from conch.cli.plugin_moves import drain_command, migrate_command
from conch.cli.plugin_plan import plan_command
from conch.cli.plugin_read import events_of, read
from conch.cli.plugin_rollout import rollout_app
from conch.cli.plugin_scaling import account_of
from conch.cli.plugin_simulate import simulate_command
from conch.cli.plugin_target import (
    AllOption,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    PluginError,
    ServiceArgument,
    Target,
    sentence,
    service_of,
)
from conch.cli.plugin_tenants import tenant_of
from conch.cli.plugin_top import overview
from conch.cli.plugin_top_commands import top_app
from conch.cli.plugin_usage import records_of
from conch.clients.clock import SystemClock
from conch.clients.cluster import Cluster, ClusterError, Object

_FAILED = 1

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Model services on Kubernetes: what Conch decided, why, and what to do.",
)
app.command("digest")(digest_command)
app.command("simulate")(simulate_command)
app.command("ask")(ask_command)
app.command("migrate")(migrate_command)
app.command("drain")(drain_command)
app.command("plan")(plan_command)
app.add_typer(key_app, name="key")
app.add_typer(top_app, name="top")
app.add_typer(rollout_app, name="rollout")


@app.command("version")
def version_command() -> None:
    """Print the version of this command."""
    print(__version__)


@app.command("explain")
def explain_command(
    *,
    service: ServiceArgument,
    namespace: NamespaceOption = None,
    output: OutputOption = None,
    operator_url: Annotated[
        str | None,
        typer.Option(
            envvar="CONCH_OPERATOR_URL",
            help="where the operator's metrics are, such as http://127.0.0.1:8081; unset: asked "
            "through the API server",
            show_default=False,
        ),
    ] = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Explain a service: why this many replicas, conditions, pools, and what to do."""
    target = Target(kubeconfig, context, namespace)
    where = target.resolved_namespace()

    async def work(cluster: Cluster) -> Explanation:
        now = SystemClock().wall()
        found = await service_of(cluster, where, service)
        reading = await read(cluster, where, now)
        account, note = await account_of(cluster, reading.leader, found, operator_url)
        records = await records_of(cluster, reading.leader)
        tenant = tenant_of(where, reading, records, now)
        unread = records.notes if tenant and not tenant.declared else ()
        notes = (*reading.notes, *([note] if note else ()), *unread)
        events = await events_of(cluster, found)
        return explain(
            found, replace(reading, notes=notes), events, now, account=account, tenant=tenant
        )

    explanation = target.run(work)
    if output is not None:
        print(view.dump(explanation, output))
    else:
        view.show(lambda out: view.show_explanation(out, explanation))


@app.command("list")
def list_command(
    namespace: NamespaceOption = None,
    all_namespaces: AllOption = False,
    output: OutputOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """List services: replicas that answer and that are wanted, and why."""
    target = Target(kubeconfig, context, namespace)
    where = None if all_namespaces else target.resolved_namespace()

    async def work(cluster: Cluster) -> list[Object]:
        return await cluster.list("ModelService", namespace=where)

    lines = overview(target.run(work))
    if output is not None:
        print(view.dump(lines, output))
    elif lines:
        view.show(
            lambda out: view.show_overview(out, lines, with_namespace=where is None), wide=True
        )
    else:
        _say("No ModelServices found" + (f" in namespace {where}." if where else "."))


@app.command("pause")
def pause_command(
    service: ServiceArgument,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Make Conch leave a service as it is; lost replicas still come back."""
    target = Target(kubeconfig, context, namespace)
    where = target.resolved_namespace()

    async def work(cluster: Cluster) -> str:
        if is_paused(await service_of(cluster, where, service)):
            return "was paused already"
        await annotate(cluster, where, service, {ANNOTATION_PAUSED: "true"})
        return "paused; to go on: kubectl conch resume"

    print(f"{where}/{service}: {target.run(work)}")


@app.command("resume")
def resume_command(
    service: ServiceArgument,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Let Conch go on with a paused service."""
    target = Target(kubeconfig, context, namespace)
    where = target.resolved_namespace()

    async def work(cluster: Cluster) -> str:
        found = await service_of(cluster, where, service)
        if ANNOTATION_DETACHED in (found["metadata"].get("annotations") or {}):
            raise PluginError(
                f"{where}/{service} was detached: its objects are no longer Conch's. Delete it "
                "and apply a service of another name, then remove the old objects"
            )
        if not is_paused(found):
            return "was not paused"
        await annotate(cluster, where, service, {ANNOTATION_PAUSED: None})
        return "resumed"

    print(f"{where}/{service}: {target.run(work)}")


@app.command("detach")
def detach_command(
    service: ServiceArgument,
    namespace: NamespaceOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="don't ask")] = False,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Let what runs for a service go on without it and without Conch."""
    target = Target(kubeconfig, context, namespace)
    where = target.resolved_namespace()
    if not yes:
        _confirm(where, service)

    async def work(cluster: Cluster) -> list[Change]:
        return await Detaching(cluster, SystemClock(), where, service, say=_say).run()

    changes = target.run(work)
    for change in changes:
        print(f"{change.kind} {change.name}: {', '.join(change.done) or 'was free already'}")
    print(_farewell(where, service, changes))


def _confirm(namespace: str, service: str) -> None:
    """Ask before what can't be taken back. Raises typer.Abort."""
    _say(
        f"Conch will no longer scale, place or update what runs for {namespace}/{service}. "
        "This can't be taken back."
    )
    typer.confirm("Detach it?", abort=True, err=True)


def _farewell(namespace: str, service: str, changes: list[Change]) -> str:
    if not changes:
        return f"{namespace}/{service}: nothing is left to detach."
    lines = [
        "",
        "What runs goes on as ordinary objects. Next:",
        f"  kubectl delete modelservice {service} -n {namespace}",
        "Later, by hand:",
        f"  kubectl scale replicaset REPLICASET -n {namespace} --replicas=N",
    ]
    if any(c.kind == "PodDisruptionBudget" for c in changes):
        lines.append(
            f"  kubectl delete pdb {service} -n {namespace}   # it lets no node be drained"
        )
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def main() -> None:
    """Run the command line; what goes wrong is one sentence and exit status 1."""
    try:
        app()
    except (PluginError, ClusterError, ConfigException) as error:
        _say(f"error: {sentence(error)}")
        sys.exit(_FAILED)


if __name__ == "__main__":
    main()
