"""The watcher of pods tells a deletion of a pod in use from every other."""

from typing import Any

import pytest

from tests.kit.scenario import PodsInUse


def pod(*, ready: bool = True, serving: bool = True, deleting: bool = False) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "p", "uid": "1", "labels": {}}
    if serving:
        metadata["labels"]["conch.dev/serving"] = "on"
    if deleting:
        metadata["deletionTimestamp"] = "2024-01-01T00:00:00Z"
    status = "True" if ready else "False"
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": status}]}}


@pytest.mark.parametrize(
    ("history", "victims"),
    [
        ([("MODIFIED", pod()), ("MODIFIED", pod(deleting=True))], ["p"]),
        ([("MODIFIED", pod()), ("DELETED", pod())], ["p"]),
        # Once is enough, whatever events the deletion brings.
        ([("MODIFIED", pod()), ("MODIFIED", pod(deleting=True)), ("DELETED", pod())], ["p"]),
        ([("MODIFIED", pod()), ("MODIFIED", pod(serving=False)), ("DELETED", pod())], []),
        ([("MODIFIED", pod(ready=False)), ("DELETED", pod(ready=False))], []),
        # One write takes the label and another deletes: seen together, it was drained first.
        ([("ADDED", pod(ready=False)), ("DELETED", pod(ready=False, serving=False))], []),
    ],
)
def test_victims(history: list[tuple[str, dict[str, Any]]], victims: list[str]) -> None:
    watcher = PodsInUse()
    for event, body in history:
        watcher.see(event, body)
    assert watcher.victims == victims
