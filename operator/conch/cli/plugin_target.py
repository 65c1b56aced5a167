"""Which cluster and namespace a command is about, found as kubectl does; and errors for people."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import typer
from kubernetes.aio import config
from kubernetes.aio.config.config_exception import ConfigException

from conch.cli.plugin_view import Format
from conch.clients.cluster import Cluster, ClusterError, Object, connect

T = TypeVar("T")

ServiceArgument = Annotated[str, typer.Argument(help="name of a ModelService", metavar="SERVICE")]
KubeconfigOption = Annotated[
    str | None, typer.Option("--kubeconfig", help="path of the kubeconfig", show_default=False)
]
ContextOption = Annotated[
    str | None, typer.Option("--context", help="context of the kubeconfig", show_default=False)
]
NamespaceOption = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="unset: the context's", show_default=False),
]
OutputOption = Annotated[
    Format | None, typer.Option("--output", "-o", help="for programs", show_default=False)
]
AllOption = Annotated[bool, typer.Option("--all-namespaces", "-A", help="of all namespaces")]


class PluginError(Exception):
    """A command can't be done; the message is a sentence for people."""


@dataclass(frozen=True)
class Target:
    """The options that say where a command acts."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None

    @property
    def _files(self) -> str | None:
        return self.kubeconfig or os.environ.get("KUBECONFIG") or None

    def resolved_namespace(self) -> str:
        """Return the namespace asked for, or that of the context. Raises PluginError."""
        return self.namespace or self._of_context() or "default"

    def _of_context(self) -> str | None:
        contexts, current = config.list_kube_config_contexts(config_file=self._files)
        name = self.context or (current or {}).get("name")
        found = [c["context"].get("namespace") for c in contexts if c["name"] == name]
        return found[0] if found else None

    def run(self, work: Callable[[Cluster], Awaitable[T]]) -> T:
        """Connect, do the work and disconnect."""
        return asyncio.run(self._run(work))

    async def _run(self, work: Callable[[Cluster], Awaitable[T]]) -> T:
        cluster = await connect(self._files, self.context)
        try:
            return await work(cluster)
        finally:
            await cluster.close()


async def service_of(cluster: Cluster, namespace: str, name: str) -> Object:
    """Return a ModelService. Raises PluginError that says which there are, ClusterError."""
    found = await cluster.get("ModelService", name, namespace)
    if found is not None:
        return found
    others = await cluster.list("ModelService", namespace=namespace)
    names = ", ".join(o["metadata"]["name"] for o in others)
    hint = f"; there are: {names}" if names else "; there are none in this namespace"
    raise PluginError(f"modelservice {name!r} not found in namespace {namespace!r}{hint}")


def sentence(error: Exception) -> str:
    """Return what went wrong, and what to do where that is known."""
    if isinstance(error, ConfigException):
        return f"the kubeconfig can't be used: {error}. Set KUBECONFIG or --kubeconfig, --context"
    if isinstance(error, ClusterError) and error.status == 404:
        return f"this cluster does not serve conch.dev; apply crds/ first ({error})"
    if isinstance(error, ClusterError) and error.status == 401:
        return f"the API server does not know you: log in again ({error})"
    return str(error)
