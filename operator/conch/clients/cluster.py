"""The Kubernetes API as Conch uses it: list, apply, patch, delete; bounded, and fenced by a lease.

Tests use a real API server instead of a fake.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client.rest import ApiException
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.resource import Resource

from conch.api.names import FIELD_MANAGER
from conch.clients.encoding import as_yaml
from conch.clients.fence import Fence, FencedRequest, NotLeaderError, behind
from conch.clients.resources import RESOURCES

REQUEST_TIMEOUT_S = 5.0
LIST_TIMEOUT_S = 30.0
PAGE = 200
LIST_TRIES = 3
WATCH_S = 300
"""Seconds after which a watch is begun anew."""
LONGEST_LINE = 1 << 22
"""Bytes of an object in a watch: more than etcd takes of one."""
GONE = 410
"""The status of a page that the API server can't give any more."""
CONFLICT = 409
"""The status of a write that met another state than it was meant for."""

# With the parameter, the library sends the text as it is.
APPLY_PATCH = "application/apply-patch+yaml; charset=utf-8"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

Object = dict[str, Any]
Objects = list[Object]
"""A name of its own: in the class below, ``list`` is a method."""


class ClusterError(Exception):
    """The API server refused or did not answer; ``status`` is its HTTP code, 0 for no answer."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Precondition:
    """What an object must still be for a disruptive write to happen."""

    uid: str
    resource_version: str | None = None

    def to_dict(self) -> dict[str, str]:
        """Return the precondition as DeleteOptions spells it."""
        version = {"resourceVersion": self.resource_version} if self.resource_version else {}
        return {"uid": self.uid, **version}


class Cluster:
    """A connection to one API server. Every method raises ClusterError."""

    def __init__(
        self,
        api: client.ApiClient,
        fence: Fence | None = None,
        requests: Counter[str] | None = None,
    ) -> None:
        self._api = api
        self._dynamic = DynamicClient(api)
        self._fence = fence
        self.requests: Counter[str] = Counter() if requests is None else requests
        """Requests sent so far by verb; a view shares them."""
        self._resources = {kind: self._resource(kind) for kind in RESOURCES}

    def fenced(self, fence: Fence) -> "Cluster":
        """Return a view of the same connection that writes only while ``fence`` allows it."""
        return Cluster(self._api, fence, self.requests)

    def _resource(self, kind: str) -> Resource:
        known = RESOURCES[kind]
        return Resource(
            prefix="apis" if known.group else "api",
            group=known.group,
            api_version=known.version,
            kind=known.kind,
            namespaced=known.namespaced,
            name=known.plural,
            client=self._dynamic,
        )

    async def list(
        self,
        kind: str,
        *,
        selector: str | None = None,
        fields: str | None = None,
        namespace: str | None = None,
        kept: Callable[[Object], Object] = lambda body: body,
    ) -> list[Object]:
        """Return all objects of a kind, in pages, as the API server has them now.

        Those of one namespace, or that match a selector of labels or fields, where one is given.
        Pages that expire before all are read are read again from the first one. Of each object
        only what ``kept`` returns is held, so that a long list takes little memory.
        """
        items, _ = await self.list_at(
            kind, selector=selector, fields=fields, namespace=namespace, kept=kept
        )
        return items

    async def list_at(
        self,
        kind: str,
        *,
        selector: str | None = None,
        fields: str | None = None,
        namespace: str | None = None,
        kept: Callable[[Object], Object] = lambda body: body,
    ) -> tuple[Objects, str]:
        """Return what ``list`` does, and the resourceVersion from which a watch goes on."""
        known = RESOURCES[kind]
        items: list[Object] = []
        token: str | None = None
        tries = LIST_TRIES
        while True:
            try:
                page = await self._call(
                    "list",
                    self._dynamic.get(
                        self._resources[kind],
                        namespace=namespace,
                        label_selector=selector,
                        field_selector=fields,
                        limit=PAGE,
                        _continue=token,
                        **_raw(LIST_TIMEOUT_S),
                    ),
                )
            except ClusterError as error:
                tries -= 1
                if error.status != GONE or not tries:
                    raise
                items, token = [], None
                continue
            head = {"apiVersion": known.api_version, "kind": kind}
            items += [kept({**head, **item}) for item in page["items"]]
            token = page["metadata"].get("continue")
            if not token:
                return items, str(page["metadata"].get("resourceVersion", ""))

    async def watch(
        self,
        kind: str,
        *,
        since: str,
        selector: str | None = None,
        fields: str | None = None,
        namespace: str | None = None,
        seconds: int = WATCH_S,
    ) -> AsyncIterator[tuple[str, Object]]:
        """Yield what happens to objects of a kind after ``since``: the event's type and the object.

        Types are ADDED, MODIFIED, DELETED and BOOKMARK. Ends after ``seconds``, or when the API
        server ends it. A version that is no longer known is a ClusterError of status 410.
        """
        self.requests["watch"] += 1
        timeout = aiohttp.ClientTimeout(total=seconds + 30.0, sock_connect=REQUEST_TIMEOUT_S)
        try:
            answer = await self._dynamic.get(
                self._resources[kind],
                namespace=namespace,
                label_selector=selector,
                field_selector=fields,
                resource_version=since,
                timeout_seconds=seconds,
                watch="true",
                query_params=[("allowWatchBookmarks", "true")],
                serialize=False,
                _request_timeout=timeout,
            )
            async with answer:
                async for line in answer.content:
                    yield _event(json.loads(line), RESOURCES[kind].api_version, kind)
        except ApiException as error:
            raise ClusterError(_sentence(error), error.status or 0) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ClusterError(f"the watch of {kind} ended: {error!r}", 0) from error

    async def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """Return one object, or None when there is none of that name."""
        try:
            found: Object = await self._call(
                "get", self._dynamic.get(self._resources[kind], name, namespace, **_raw())
            )
        except ClusterError as error:
            if error.status == 404:
                return None
            raise
        return found

    async def create(self, body: Object) -> Object:
        """Create an object."""
        if body["kind"] == "ControllerRevision":
            return await self._create_as_yaml(body)
        return await self._write(
            "create",
            self._dynamic.create(
                self._resources[body["kind"]], body, field_manager=FIELD_MANAGER, **_raw()
            ),
        )

    async def _create_as_yaml(self, body: Object) -> Object:
        """Create an object whose ``data`` may never change, not even in white space.

        Of JSON the API server keeps the bytes, which its own patches then write in another way; from
        YAML it writes them so at once.
        """
        path = self._path(body["kind"], "", body["metadata"]["namespace"], None)
        return await self._write(
            "create",
            self._dynamic.request(
                "post",
                path.rstrip("/"),
                body=as_yaml(body),
                content_type="application/yaml",
                field_manager=FIELD_MANAGER,
                **_raw(),
            ),
        )

    async def replace(self, body: Object) -> Object:
        """Replace an object; its resourceVersion must be the newest."""
        return await self._write(
            "replace",
            self._dynamic.replace(
                self._resources[body["kind"]], body, field_manager=FIELD_MANAGER, **_raw()
            ),
        )

    async def apply(self, body: Object, *, force: bool, subresource: str | None = None) -> Object:
        """Apply the fields that Conch owns (server-side); what others own is left alone.

        With ``force`` the fields in ``body`` become Conch's; without, another's claim is a 409.
        """
        metadata = body["metadata"]
        path = self._path(body["kind"], metadata["name"], metadata.get("namespace"), subresource)
        return await self._write(
            "apply",
            self._dynamic.request(
                "patch",
                path,
                body=as_yaml(body),
                content_type=APPLY_PATCH,
                field_manager=FIELD_MANAGER,
                force_conflicts=force or None,
                **_raw(),
            ),
        )

    async def patch(
        self, kind: str, name: str, namespace: str | None, body: Object, *, content_type: str
    ) -> Object:
        """Patch an object; put uid and resourceVersion into ``body`` as preconditions."""
        return await self._write(
            "patch",
            self._dynamic.patch(
                self._resources[kind],
                body,
                name,
                namespace,
                content_type=content_type,
                field_manager=FIELD_MANAGER,
                **_raw(),
            ),
        )

    async def delete(
        self,
        kind: str,
        name: str,
        namespace: str | None,
        precondition: Precondition,
        *,
        grace_seconds: int | None = None,
    ) -> None:
        """Delete exactly that object; one that is gone already is no error.

        ``grace_seconds`` takes the place of a pod's own grace period.
        """
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": precondition.to_dict(),
            "propagationPolicy": "Background",
            **({} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}),
        }
        try:
            await self._write(
                "delete",
                self._dynamic.delete(
                    self._resources[kind], name, namespace, body=options, **_raw()
                ),
            )
        except ClusterError as error:
            if error.status != 404:
                raise

    async def through_pod(self, namespace: str, pod: str, port: int, path: str) -> Object:
        """Return what a pod answers at a path, asked through the API server."""
        url = f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/{path.lstrip('/')}"
        found: Object = await self._call("get", self._dynamic.request("get", url, **_raw()))
        return found

    def _path(self, kind: str, name: str, namespace: str | None, subresource: str | None) -> str:
        path: str = self._resources[kind].path(name=name, namespace=namespace)
        return f"{path}/{subresource}" if subresource else path

    async def _write(self, verb: str, request: Awaitable[Any]) -> Object:
        if self._fence is not None and not self._fence.may_write():
            _unsent(request)
            raise NotLeaderError("the lease could not be renewed in time; nothing was written")
        left = None if self._fence is None else self._fence.seconds_left()
        with behind(self._fence):
            answer: Object = await self._call(verb, request, within=left)
        return answer

    async def _call(
        self, verb: str, request: Awaitable[Any], *, within: float | None = None
    ) -> Any:
        """Await an answer, ``within`` so many seconds where that is less than its time-out."""
        self.requests[verb] += 1
        try:
            async with asyncio.timeout(within):
                return await request
        except ApiException as error:
            raise ClusterError(_sentence(error), error.status or 0) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClusterError(f"the API server does not answer: {error!r}", 0) from error

    async def close(self) -> None:
        """Close the connection."""
        await self._api.close()


def _event(event: Object, api_version: str, kind: str) -> tuple[str, Object]:
    """Return the type and the object of a line of a watch. Raises ClusterError where it is an error."""
    body: Object = event["object"]
    if event["type"] == "ERROR":
        raise ClusterError(str(body.get("message")), int(body.get("code") or 0))
    return str(event["type"]), {"apiVersion": api_version, "kind": kind, **body}


def _unsent(request: Awaitable[Any]) -> None:
    if isinstance(request, Coroutine):
        request.close()


def _raw(timeout: float = REQUEST_TIMEOUT_S) -> Mapping[str, Any]:
    return {"serializer": lambda _client, data: data, "_request_timeout": timeout}


def _sentence(error: ApiException) -> str:
    summary = getattr(error, "summary", None)
    text = summary() if callable(summary) else (error.body or error.reason)
    return str(text)


async def connect(kubeconfig: str | None = None, context: str | None = None) -> Cluster:
    """Connect by a kubeconfig (argument, KUBECONFIG, default place) or from inside a pod.

    ``context`` is one of the kubeconfig's; unset: its current one.
    """
    configuration = client.Configuration()
    configuration.retries = 1
    # aiohttp would look for a proxy and for ~/.netrc anew with each request, on another thread.
    configuration.client_session_kwargs = {
        "request_class": FencedRequest,
        "trust_env": False,
        "read_bufsize": LONGEST_LINE,
    }
    if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config(client_configuration=configuration)
    else:
        await config.load_kube_config(
            kubeconfig, context=context, client_configuration=configuration
        )
    configuration.proxy = configuration.proxy or _proxy_for(configuration.host)
    return Cluster(client.ApiClient(configuration))


def _proxy_for(server: str) -> str | None:
    """Return the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY ask for, if any."""
    url = urlsplit(server)
    if url.hostname is None or proxy_bypass(url.hostname):
        return None
    return getproxies().get(url.scheme)
