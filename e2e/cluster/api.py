"""As much of a Kubernetes client as the tool needs to set up a cluster, and quick to import."""

import base64
import http.client
import json
import ssl
import tempfile
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_TIMEOUT_S = 10.0
_MANAGER = "conch-local-cluster"
Object = dict[str, Any]


class ApiError(Exception):
    """The API server refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the API server answered {status}: {message}")
        self.status = status


class Api:
    """An API server, as one user; each call is one request.

    Calls raise ApiError if refused and OSError or http.client.HTTPException if not answered.
    """

    def __init__(self, url: str, tls: ssl.SSLContext) -> None:
        parts = urllib.parse.urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._tls = tls

    @classmethod
    def from_kubeconfig(cls, path: Path) -> "Api":
        """The current context of a kubeconfig that holds its certificates in itself."""
        config = yaml.safe_load(path.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        tls = ssl.create_default_context(cadata=authority)
        # OpenSSL reads a client's key only from a file.
        with tempfile.NamedTemporaryFile() as pem:
            pem.write(base64.b64decode(user["client-certificate-data"]))
            pem.write(base64.b64decode(user["client-key-data"]))
            pem.flush()
            tls.load_cert_chain(pem.name)
        return cls(cluster["server"], tls)

    def get(self, path: str) -> Object:
        return self._request("GET", path)

    def find(self, path: str) -> Object | None:
        """As `get`; None if there is no such object."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == http.client.NOT_FOUND:
                return None
            raise

    def merge(self, path: str, patch: Object) -> Object:
        """Changes the fields in `patch` (a JSON merge patch)."""
        return self._request("PATCH", path, patch, "application/merge-patch+json")

    def apply(self, path: str, manifest: Object) -> Object:
        """Makes the object so, whether it is there or not (server-side apply)."""
        query = f"?fieldManager={_MANAGER}&force=true"
        return self._request("PATCH", path + query, manifest, "application/apply-patch+yaml")

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, kind: str = ""
    ) -> Object:
        connection = http.client.HTTPSConnection(
            self._host, self._port, context=self._tls, timeout=_TIMEOUT_S
        )
        try:
            headers = {"Content-Type": kind} if kind else {}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise ApiError(response.status, _message(text))
        answer: Object = json.loads(text)
        return answer


def _message(text: bytes) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.decode(errors="replace").strip()
