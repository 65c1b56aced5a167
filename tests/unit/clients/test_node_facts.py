"""What a node's agent makes of the API server's answers."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from conch.clients.node_facts import Server

POD = {"metadata": {"uid": "u1"}, "status": {"phase": "Running"}}


@dataclass(frozen=True)
class Told(Server):
    """Answers the same to everything."""

    status: int = 200
    body: Any = None
    fault: Exception | None = None
    asked: list[str] = field(default_factory=list)

    def _get(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        if self.fault:
            raise self.fault
        return self.status, json.dumps(self.body).encode()


def told(**fields: Any) -> Told:
    return Told("kubernetes", 443, **fields)


CASES = [
    (told(body=POD), True),
    (told(body={**POD, "metadata": {"uid": "u2"}}), False),
    (told(body={**POD, "status": {"phase": "Succeeded"}}), False),
    (told(body={**POD, "status": {"phase": "Failed"}}), False),
    (told(body={**POD, "status": {}}), True),
    (told(status=404), False),
    (told(status=403), None),
    (told(status=500), None),
    (told(body={}), None),
    (told(fault=TimeoutError()), None),
    (told(fault=ConnectionRefusedError()), None),
    (told(fault=FileNotFoundError("token")), None),
]


@pytest.mark.parametrize(("server", "lives"), CASES, ids=str)
def test_only_a_clear_answer_says_that_a_pod_is_gone(server: Told, lives: bool | None) -> None:
    assert server.pod_lives("vision", "digits-1", "u1") is lives
    assert server.asked == ["/api/v1/namespaces/vision/pods/digits-1"]


def test_a_namespace_of_the_same_name_is_another_one() -> None:
    here = told(body={"metadata": {"uid": "u1"}})
    assert here.namespace_lives("vision", "u1") is True
    assert here.namespace_lives("vision", "u2") is False
    assert told(status=404).namespace_lives("vision", "u1") is False
    assert told(status=503).namespace_lives("vision", "u1") is None


def test_outside_of_a_cluster_there_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(KeyError):
        Server.from_environment()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert Server.from_environment() == Server("10.96.0.1", 443)
