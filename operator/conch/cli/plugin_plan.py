"""``kubectl conch plan``: what the planner of migrations would move, what it leaves, and why."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table

from conch.cli import plugin_view as view
from conch.cli.plugin_read import leader_of
from conch.cli.plugin_scaling import told_by_operator
from conch.cli.plugin_target import (
    ContextOption,
    KubeconfigOption,
    OutputOption,
    PluginError,
    Target,
)
from conch.clients.clock import SystemClock
from conch.clients.cluster import Cluster


def plan_command(
    *,
    output: OutputOption = None,
    operator_url: Annotated[
        str | None,
        typer.Option(
            envvar="CONCH_OPERATOR_URL",
            help="where the operator's metrics are; unset: asked through the API server",
            show_default=False,
        ),
    ] = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show which replicas should run elsewhere and why, without moving anything."""

    async def work(cluster: Cluster) -> Mapping[str, Any]:
        notes = list[str]()
        leader = await leader_of(cluster, SystemClock().wall(), notes)
        found, note = await told_by_operator(cluster, leader, "plan", operator_url)
        if found is None:
            raise PluginError(
                note or (notes[0] if notes else "no operator runs, so nothing is planned")
            )
        return found

    plan = Target(kubeconfig, context).run(work)
    if output is not None:
        print(view.dump(plan, output))
    else:
        view.show(lambda out: show_plan(out, plan), wide=True)


def show_plan(out: Console, plan: Mapping[str, Any]) -> None:
    """Print a plan for people."""
    if plan["at"] is None:
        out.print(
            "Nothing was planned yet; the planner may be off (operator.planner in the chart)."
        )
        return
    out.print(f"As of {plan['at']}:")
    out.print(Group(*_tables(plan)))


def _tables(plan: Mapping[str, Any]) -> Iterator[Table | str]:
    if not (plan["moves"] or plan["later"]):
        yield "No replica had better run elsewhere."
    for title, name in (("Moves now", "moves"), ("Moves after these", "later")):
        if plan[name]:
            yield _table(
                title, plan[name], ("service", "replica", "from", "to", "reason", "because")
            )
    if plan["refused"]:
        columns = ("service", "replica", "reason", "refused", "because")
        yield _table("Left where they are", plan["refused"], columns)


def _table(title: str, rows: list[Mapping[str, Any]], columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for name in columns:
        table.add_column(name.upper(), overflow="fold")
    for row in rows:
        table.add_row(*(str(row.get(name) or "-") for name in columns))
    return table
