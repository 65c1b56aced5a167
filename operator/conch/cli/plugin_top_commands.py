"""``kubectl conch top``: who holds which GPUs, and where each tenant stands."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated

import typer

from conch.cli import plugin_top_view as top_view
from conch.cli import plugin_view as view
from conch.cli.plugin_read import Reading, read
from conch.cli.plugin_target import ContextOption, KubeconfigOption, OutputOption, Target
from conch.cli.plugin_tenants import TenantUse, tenant_uses
from conch.cli.plugin_top import PoolUse, pool_use
from conch.cli.plugin_usage import Records, records_of
from conch.clients.clock import SystemClock
from conch.clients.cluster import Cluster
from conch.reconcile.tenants import USAGE

top_app = typer.Typer(
    invoke_without_command=True, help="Show the GPUs of each pool and who holds them."
)


class Form(StrEnum):
    """What ``-o`` takes where a table is an answer for programs too."""

    JSON = "json"
    YAML = "yaml"
    CSV = "csv"


FormOption = Annotated[
    Form | None,
    typer.Option(
        "--output",
        "-o",
        help="for programs; csv: a row for each tenant and accelerator, for charge-back",
        show_default=False,
    ),
]


@top_app.callback()
def top_command(
    ctx: typer.Context,
    output: OutputOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show the GPUs of each pool and who holds them, over all namespaces."""
    ctx.obj = (output, kubeconfig, context)
    if ctx.invoked_subcommand is None:
        notes, pools = _pools(Target(kubeconfig, context))
        if output is not None:
            print(view.dump(pools, output))
        else:
            view.show(lambda out: top_view.show_top(out, pools), wide=True)
            view.warn(notes)


@top_app.command("gpus")
def gpus_command(
    ctx: typer.Context,
    output: OutputOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show who holds which GPUs, whose tenant that is, and what an hour of them costs."""
    before = ctx.obj
    notes, pools = _pools(Target(kubeconfig or before[1], context or before[2]))
    form = output or before[0]
    if form is not None:
        print(view.dump(pools, form))
    else:
        view.show(lambda out: top_view.show_gpus(out, pools), wide=True)
    view.warn(notes)


@top_app.command("tenants")
def tenants_command(
    ctx: typer.Context,
    output: FormOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show what each tenant holds, may have, has used, waits for and is charged.

    A name in parentheses is a namespace that no Tenant names: it counts as a tenant of weight 1.
    """
    before = ctx.obj
    notes, tenants = _tenants(Target(kubeconfig or before[1], context or before[2]))
    form = output or before[0]
    if form is None:
        view.show(lambda out: top_view.show_tenants(out, tenants), wide=True)
    elif form == Form.CSV:
        print(top_view.tenants_csv(tenants))
    else:
        print(view.dump(tenants, view.Format(form)))
    view.warn(notes)


def _pools(target: Target) -> tuple[Sequence[str], tuple[PoolUse, ...]]:
    """Return what could not be read, and the use of all pools."""

    async def work(cluster: Cluster) -> Reading:
        return await read(cluster, None, SystemClock().wall())

    reading = target.run(work)
    return reading.notes, pool_use(reading)


def _tenants(target: Target) -> tuple[Sequence[str], tuple[TenantUse, ...]]:
    """Return what could not be read, and all tenants."""

    async def work(cluster: Cluster) -> tuple[Reading, Records, float]:
        now = SystemClock().wall()
        reading = await read(cluster, None, now)
        return reading, await records_of(cluster, reading.leader), now

    reading, records, now = target.run(work)
    tenants = tenant_uses(reading, records, now)
    return (*reading.notes, *_lacking(records, tenants)), tenants


def _lacking(records: Records, tenants: Iterable[TenantUse]) -> Iterable[str]:
    """Return notes about the tenants whose records are missing."""
    if records.notes:
        return records.notes
    bare = [t.tenant for t in tenants if t.usage is None]
    if not bare:
        return ()
    where = "" if records.found else f"; there is no ConfigMap {USAGE}"
    return (f"the operator has no record yet of {', '.join(sorted(bare))}{where}",)
