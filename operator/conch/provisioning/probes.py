"""Probes: ready means that the model answers, alive means that the server does."""

from typing import Any
from urllib.parse import quote

LOAD_SECONDS = 1800
"""Longest time that a model may take to load before the kubelet starts Triton again."""


def probes(model: str) -> dict[str, Any]:
    """Return the three probes of Triton's container."""
    ready = _get(f"/v2/models/{quote(model, safe='')}/ready")
    return {
        # Every second, so that a replica serves as soon as it can.
        "startupProbe": _probe(ready, period=1, timeout=1, failures=LOAD_SECONDS),
        # A replica with a small share of a CPU answers late under load: it is not broken.
        "readinessProbe": _probe(ready, period=2, timeout=5, failures=3),
        "livenessProbe": _probe(_get("/v2/health/live"), period=10, timeout=10, failures=6),
    }


def _get(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http", "scheme": "HTTP"}}


def _probe(action: dict[str, Any], *, period: int, timeout: int, failures: int) -> dict[str, Any]:
    return {
        **action,
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
        "successThreshold": 1,
    }
