"""kopf's decorators; each body is one call.

Only ``on.event``: other handlers would write an annotation to every object. kopf runs on a thread of
its own, where the store may not be touched: what it hears is handed over to the loop that decides.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import kopf

from conch.clients.resources import RESOURCES
from conch.reconcile.loop import Reconciler
from conch.reconcile.settings import Settings

WATCHED = (
    "ModelService",
    "ModelMigration",
    "Model",
    "ClusterModel",
    "GPUPool",
    "Tenant",
    "Node",
    "Pod",
    "ReplicaSet",
    "Service",
    "PodDisruptionBudget",
)
"""Kinds whose changes should act at once. The others are listed once a minute: kopf can't watch
by label, and no one wants an operator that reads every ConfigMap of a cluster."""


def watched(settings: Settings) -> tuple[str, ...]:
    """Return the kinds to watch; volumes are Conch's business only where it makes some.

    So are devices of DRA only where the installation wants it.
    """
    volumes = settings.file_prefixes or settings.cache_path
    return (
        *WATCHED,
        *(("PersistentVolume",) if volumes else ()),
        *(("ResourceSlice", "ResourceClaim") if settings.dra else ()),
    )


def registry_of(reconciler: Reconciler) -> kopf.OperatorRegistry:
    """Return the handlers that feed a reconciler; call it on the event loop that decides."""
    registry, home = kopf.OperatorRegistry(), asyncio.get_running_loop()
    post = Post(home, reconciler.observe)
    for kind in watched(reconciler.settings):
        _watch(registry, kind, post)
    kopf.on.login(registry=registry)(_login)

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        _configure(settings)

    async def count() -> int:
        return reconciler.ticks

    @kopf.on.probe(id="ticks", registry=registry)
    async def ticks(**_: Any) -> int:
        # Asked there, so that a loop that hangs does not pass for alive.
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(count(), home))

    return registry


class Post:
    """Hands over to an event loop what other threads hear: it is woken once for all that waits."""

    def __init__(self, home: asyncio.AbstractEventLoop, take: Callable[..., object]) -> None:
        """``take`` is called on ``home`` with each letter, in their order."""
        self._home = home
        self._take = take
        self._letters: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()

    def hand(self, *letter: Any) -> None:
        """Hand a letter over; any thread may call this."""
        with self._lock:
            self._letters.append(letter)
            first = len(self._letters) == 1
        if first:
            self._home.call_soon_threadsafe(self._open)

    def _open(self) -> None:
        with self._lock:
            letters, self._letters = self._letters, []
        for letter in letters:
            self._home.call_soon(self._take, *letter)


def _watch(registry: kopf.OperatorRegistry, kind: str, post: Post) -> None:
    resource = RESOURCES[kind]

    @kopf.on.event(resource.group, resource.version, resource.plural, registry=registry)
    async def handle(event: kopf.RawEvent, **_: Any) -> None:
        post.hand(kind, event["type"], dict(event["object"]))


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


class _NoDiffs(kopf.DiffBaseStorage):
    """Keeps no earlier state of objects: only handlers of changes would ask for one.

    kopf's own copies each object several times for each event, which is most of what an event
    costs.
    """

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:  # noqa: ARG002
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep nothing."""


def _configure(settings: kopf.OperatorSettings) -> None:
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.posting.enabled = False  # Conch records its own Events
    settings.scanning.disabled = True  # the kinds are known; CRDs need not be watched
    # A watch that dies silently is noticed after a minute; the regular list covers the gap.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 5
    settings.watching.reconnect_backoff = 0.5
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = [0.5, 1, 2, 4, 8]
    # A worker an object, which only hands over. One that stayed would take a place from others:
    # with a limit, no more objects are heard of a second than places fall free.
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = 0.2
    settings.queueing.exit_timeout = 1
