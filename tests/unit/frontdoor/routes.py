"""Pods, services and routes for the tests of this folder."""

from typing import Any

from conch.api.endpoint import Endpoint
from conch.decisions.fleet import ServiceKey
from conch.frontdoor.routes import Replica, Route, route_of

KEY = ServiceKey("vision", "digits")


def pod(name: str, *, ready: bool = True, deleted: bool = False, **more: Any) -> dict[str, Any]:
    """Return a pod of vision/digits; ``labels`` and ``args`` replace what it has."""
    labels = {
        "conch.dev/service": "digits",
        "conch.dev/revision": "r1",
        "conch.dev/serving": "on",
        **more.get("labels", {}),
    }
    args = more.get("args", ["tritonserver", "--load-model=digits", "--id=vision/digits"])
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "vision",
            "uid": f"uid-{name}",
            "labels": {k: v for k, v in labels.items() if v is not None},
            **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}),
        },
        "spec": {"containers": [{"name": "triton", "args": args}]},
        "status": {
            "podIP": more.get("address", f"10.0.0.{len(name)}"),
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def route(
    *pods: dict[str, Any],
    revision: str | None = "r1",
    canary: tuple[str, int] | None = None,
    **endpoint: Any,
) -> Route:
    """Return the route of vision/digits with these pods."""
    return route_of(
        KEY,
        Endpoint.model_validate(endpoint),
        tenant="acme",
        domain="models.test",
        revision=revision,
        pods=pods,
        canary=canary,
    )


def replica(name: str, *, takes: bool = True) -> Replica:
    """Return a replica that takes requests, or one that leaves."""
    return Replica(f"uid-{name}", name, f"10.0.0.{name}", takes, not takes, "digits", proves=True)
