"""``kubectl conch key``: makes, lists and revokes keys of callers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console

from conch.api.names import LABEL_API_KEYS
from conch.cli import plugin_keys as keys
from conch.cli import plugin_view as view
from conch.cli.plugin_keys import KeyLine
from conch.cli.plugin_read import FORBIDDEN, leader_of
from conch.cli.plugin_target import (
    AllOption,
    ContextOption,
    KubeconfigOption,
    OutputOption,
    PluginError,
    Target,
)
from conch.cli.plugin_tenants import Owners, claimant
from conch.clients.clock import SystemClock
from conch.clients.cluster import (
    CONFLICT,
    MERGE_PATCH,
    Cluster,
    ClusterError,
    Object,
    Precondition,
)
from conch.decisions.shares.tenancy import owners

_MISSING = 404

key_app = typer.Typer(no_args_is_help=True, help="Make, list and revoke keys of callers.")

NameArgument = Annotated[str, typer.Argument(help="name of the Secret", metavar="NAME")]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        help="of the Secret; unset: the front door's own",
        show_default=False,
    ),
]
TenantOption = Annotated[
    str | None,
    typer.Option(
        "--tenant",
        help="whose key it is: a Tenant, or a namespace that belongs to none",
        show_default=False,
    ),
]


@key_app.command("create")
def create_command(
    *,
    name: NameArgument,
    tenant: TenantOption = None,
    namespace: WhereOption = None,
    add: Annotated[
        bool, typer.Option("--add", help="put it beside the keys of a Secret that is there")
    ] = False,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Make a fresh key and print it, this once.

    To replace a key: --add another to its Secret, have callers use that, and revoke the old one.
    """
    key = keys.new_key()

    async def work(cluster: Cluster) -> str:
        place = await _place(cluster, namespace)
        if add:
            await _add(cluster, name, place.namespace, key, tenant)
        else:
            await _create(cluster, name, place, key, tenant)
        return place.namespace

    where = Target(kubeconfig, context).run(work)
    view.warn([f"key {keys.entry_of(key)} in Secret {where}/{name}; it is not shown again:"])
    print(key)


@key_app.command("list")
def list_command(
    namespace: WhereOption = None,
    all_namespaces: AllOption = False,
    output: OutputOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """List keys: whose they are, and whether they count. None of them is shown."""

    async def work(cluster: Cluster) -> tuple[KeyLine, ...]:
        home = await _home(cluster)
        where = None if all_namespaces else namespace or _known(home)
        found = await cluster.list("Secret", selector=LABEL_API_KEYS, namespace=where)
        whose = await _owners(cluster)
        return keys.lines(found, owners=whose, home=home, now=SystemClock().wall())

    lines = Target(kubeconfig, context).run(work)
    if output is not None:
        print(view.dump(lines, output))
    elif lines:
        view.show(lambda out: _show(out, lines), wide=True)
    else:
        view.warn(["there are no keys here; kubectl conch key create NAME --tenant TENANT"])


@key_app.command("revoke")
def revoke_command(
    *,
    name: NameArgument,
    key: Annotated[
        str | None,
        typer.Option("--key", help="only this one of its keys, by name", show_default=False),
    ] = None,
    namespace: WhereOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="don't ask")] = False,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Revoke a key, or all keys of a Secret: whoever still sends it is refused at once."""
    target = Target(kubeconfig, context)
    what = f"key {key} of Secret {name}" if key else f"all keys of Secret {name}"
    if not yes:
        typer.confirm(f"Revoke {what}?", abort=True, err=True)

    async def work(cluster: Cluster) -> str:
        where = (await _place(cluster, namespace)).namespace
        await _revoke(cluster, await _secret(cluster, name, where), key)
        return where

    print(f"{target.run(work)}/{name}: {key or 'all keys'} revoked")


@dataclass(frozen=True)
class _Place:
    """Where a Secret of keys lies, and the front door's own namespace, where that is known."""

    namespace: str
    home: str | None


async def _home(cluster: Cluster) -> str | None:
    """Return the namespace of the operator, and so of the front door; None where not known."""
    leader = await leader_of(cluster, SystemClock().wall(), [])
    return leader.namespace if leader is not None and leader.namespace else None


def _known(home: str | None) -> str:
    if home is None:
        raise PluginError("the front door's namespace can't be found out; name it with -n")
    return home


async def _place(cluster: Cluster, namespace: str | None) -> _Place:
    home = await _home(cluster)
    return _Place(namespace or _known(home), home)


async def _owners(cluster: Cluster) -> Owners:
    """Return whose each namespace is; nothing of it where Tenants may not be listed."""
    try:
        found = await cluster.list("Tenant")
    except ClusterError as error:
        if error.status not in (FORBIDDEN, _MISSING):
            raise
        view.warn(["you may not list Tenants, so none is known"])
        return Owners({})
    return Owners(
        owners(claimant(body) for body in found), frozenset(b["metadata"]["name"] for b in found)
    )


async def _create(cluster: Cluster, name: str, place: _Place, key: str, tenant: str | None) -> None:
    whose = await _owners(cluster)
    if tenant is not None:
        there = tenant in whose.tenants or await _is_namespace(cluster, tenant)
        keys.checked_tenant(tenant, whose, is_namespace=there)
    label = keys.label_for(place.namespace, tenant, home=place.home, owners=whose)
    try:
        await cluster.create(keys.secret(name, place.namespace, label, key))
    except ClusterError as error:
        if error.status == CONFLICT:
            raise PluginError(
                f"there is a Secret {place.namespace}/{name}; --add puts a further key into it"
            ) from error
        if error.status == _MISSING:
            raise PluginError(f"there is no namespace {place.namespace!r}") from error
        raise


async def _is_namespace(cluster: Cluster, name: str) -> bool:
    """Tell whether there is such a namespace; whoever may not know is trusted to."""
    try:
        return await cluster.get("Namespace", name) is not None
    except ClusterError as error:
        if error.status != FORBIDDEN:
            raise
        return True


async def _secret(cluster: Cluster, name: str, namespace: str) -> Object:
    """Return a Secret of keys. Raises PluginError where it is none."""
    found = await cluster.get("Secret", name, namespace)
    if found is None:
        raise PluginError(f"there is no Secret {namespace}/{name}; see kubectl conch key list -A")
    if not keys.is_of_keys(found):
        raise PluginError(f"Secret {namespace}/{name} holds no keys: no label {LABEL_API_KEYS}")
    return found


async def _add(cluster: Cluster, name: str, namespace: str, key: str, tenant: str | None) -> None:
    body = await _secret(cluster, name, namespace)
    label = body["metadata"]["labels"][LABEL_API_KEYS]
    if tenant not in (None, label):
        raise PluginError(f"the keys of Secret {namespace}/{name} are of {label!r}")
    await _patch(cluster, body, {"data": keys.data_of(key)})


async def _revoke(cluster: Cluster, body: Object, key: str | None) -> None:
    """Remove one key, or the Secret with all of them, as it was read."""
    metadata, held = body["metadata"], body.get("data") or {}
    if key is not None and key not in held:
        raise PluginError(
            f"there is no key {key!r}; there are: {', '.join(sorted(held)) or 'none'}"
        )
    if key is None or set(held) == {key}:
        exactly = Precondition(metadata["uid"], metadata["resourceVersion"])
        await cluster.delete("Secret", metadata["name"], metadata["namespace"], exactly)
    else:
        await _patch(cluster, body, {"data": {key: None}})


async def _patch(cluster: Cluster, body: Object, change: Object) -> None:
    """Change a Secret that is still as it was read."""
    metadata = body["metadata"]
    exactly = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    await cluster.patch(
        "Secret",
        metadata["name"],
        metadata["namespace"],
        {"metadata": exactly, **change},
        content_type=MERGE_PATCH,
    )


def _show(out: Console, lines: Sequence[KeyLine]) -> None:
    rows = view.table("NAMESPACE", "NAME", "TENANT", "KEY", "STATE", "AGE")
    for line in lines:
        age = view.age(line.age_seconds)
        rows.add_row(line.namespace, line.name, line.tenant or "-", line.key, line.state, age)
    out.print(rows)
