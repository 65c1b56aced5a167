"""The few questions that a node's agent asks the API server, without a client library's memory."""

import http.client
import json
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_S = 5.0
_ENDED = ("Succeeded", "Failed")
_NOT_FOUND, _OK = 404, 200


@dataclass(frozen=True)
class Server:
    """The API server as a pod with a service account reaches it."""

    host: str
    port: int
    account: Path = ACCOUNT

    @classmethod
    def from_environment(cls) -> "Server":
        """Return the server of the cluster that this pod runs in. Raises KeyError outside of one."""
        return cls(
            os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
        )

    def pod_lives(self, namespace: str, name: str, uid: str) -> bool | None:
        """Tell whether a pod is there and has not ended; None where the server does not tell."""
        return self._lives(
            f"/api/v1/namespaces/{namespace}/pods/{name}",
            lambda pod: (
                pod["metadata"]["uid"] == uid and pod.get("status", {}).get("phase") not in _ENDED
            ),
        )

    def namespace_lives(self, name: str, uid: str) -> bool | None:
        """Tell whether a namespace is there; None where the server does not tell."""
        return self._lives(
            f"/api/v1/namespaces/{name}", lambda found: found["metadata"]["uid"] == uid
        )

    def _lives(self, path: str, judge: Callable[[dict[str, Any]], bool]) -> bool | None:
        try:
            status, body = self._get(path)
            if status == _OK:
                return judge(json.loads(body))
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return None
        return False if status == _NOT_FOUND else None

    def _get(self, path: str) -> tuple[int, bytes]:
        trust = ssl.create_default_context(cafile=str(self.account / "ca.crt"))
        connection = http.client.HTTPSConnection(
            self.host, self.port, timeout=TIMEOUT_S, context=trust
        )
        try:
            # Read anew each time: the kubelet exchanges it.
            token = (self.account / "token").read_text().strip()
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
