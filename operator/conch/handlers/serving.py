"""The operator's HTTP port: its metrics, and the reasons of one service's number of replicas."""

import json
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

Account = Callable[[str, str], Mapping[str, Any] | None]
"""From namespace and name to what a service's number of replicas comes from."""
Plan = Callable[[], Mapping[str, Any]]
"""Returns what the planner of migrations proposed last."""
_PARTS = 3


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Keep requests out of the operator's log."""


def serve(port: int, registry: CollectorRegistry, account: Account, plan: Plan) -> WSGIServer:
    """Serve on a thread of its own until the process ends.

    GET /metrics, /scaling/NAMESPACE/NAME, and /plan, what the planner of migrations proposed last.

    Whoever may read the metrics may read the accounts: they hold no more than figures.
    """
    server = make_server("", port, _app(registry, account, plan), ThreadingWSGIServer, _Quiet)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def _app(
    registry: CollectorRegistry, account: Account, plan: Plan
) -> Callable[..., Iterable[bytes]]:
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        parts = environ.get("PATH_INFO", "").strip("/").split("/")
        if parts[0] not in ("scaling", "plan"):
            answer: Iterable[bytes] = metrics(environ, start_response)
            return answer
        found = plan() if parts == ["plan"] else None
        if parts[0] == "scaling" and len(parts) == _PARTS:
            found = account(*parts[1:])
        status = "404 Not Found" if found is None else "200 OK"
        said = found or {"error": "this operator decided on no such service"}
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(_finite(said), allow_nan=False).encode()]

    return app


def _finite(value: Any) -> Any:
    """Return a value without numbers that JSON lacks."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
