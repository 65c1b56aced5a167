"""What pods that do not start say about the reason. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from conch.api.conditions import Reason
from conch.api.names import FETCH_CONTAINER
from conch.decisions.fleet import Pod
from conch.provisioning.termination import fetch_failure

Object = Mapping[str, Any]

_IMAGE = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
    }
)
_TRITON_LEVEL = re.compile(r"^[EF][0-9]{4} [^\]]*\] ?\"?")
_PREFERRED = ("failed to load", "error:", "Error")


@dataclass(frozen=True)
class Failure:
    """Why a pod does not answer; the message names the pod and quotes the cause."""

    reason: Reason
    message: str


def failure_of(pods: Iterable[Pod]) -> Failure | None:
    """Return why the newest pod that fails does so, or None when none fails."""
    for pod in sorted(pods, key=lambda p: (-p.created, p.name)):
        failure = None if pod.ready or pod.deleting else _pod_failure(pod)
        if failure:
            return Failure(failure.reason, f"pod {pod.name}: {failure.message}")
    return None


def _pod_failure(pod: Pod) -> Failure | None:
    if pod.unschedulable and "persistentvolumeclaim" in pod.unschedulable:
        return Failure(Reason.SOURCE_UNAVAILABLE, pod.unschedulable)
    status = pod.body.get("status", {})
    for container in (
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ):
        failure = _container_failure(container)
        if failure:
            return failure
    return None


def _container_failure(container: Object) -> Failure | None:
    waiting = container.get("state", {}).get("waiting") or {}
    if waiting.get("reason") in _IMAGE:
        text = waiting.get("message") or waiting["reason"]
        return Failure(Reason.IMAGE_UNAVAILABLE, f"image {container.get('image')}: {text}")
    if waiting.get("reason") == "CreateContainerConfigError":
        return Failure(Reason.LOAD_FAILED, str(waiting.get("message")))
    ended = _ended(container)
    if ended is None:
        return None
    if ended.get("reason") == "OOMKilled":
        return Failure(
            Reason.OUT_OF_MEMORY,
            f"container {container['name']} was killed for memory: raise resources.memory of the "
            "variant, or perGPU.memory of the pool",
        )
    return _explained(container["name"], ended)


def _ended(container: Object) -> Object | None:
    """Return how the container ended in failure, last or before its restart."""
    for state in (container.get("state", {}), container.get("lastState", {})):
        ended: Object | None = state.get("terminated")
        if ended is not None and ended.get("exitCode") != 0:
            return ended
    return None


def _explained(name: str, ended: Object) -> Failure:
    text = (ended.get("message") or "").strip()
    if name == FETCH_CONTAINER:
        return Failure(*fetch_failure(text))
    return Failure(Reason.LOAD_FAILED, error_line(text) or f"Triton ended with {ended['exitCode']}")


def error_line(log: str) -> str:
    """Return the line of Triton's log that names the cause, without its time stamp."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if _TRITON_LEVEL.match(line)] or lines
    for mark in _PREFERRED:
        named = [line for line in errors if mark in line]
        if named:
            return _TRITON_LEVEL.sub("", named[0]).rstrip('"')
    return _TRITON_LEVEL.sub("", errors[-1]).rstrip('"') if errors else ""
