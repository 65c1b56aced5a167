import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from e2e.cluster.api import Api, ApiError
from e2e.cluster.pki import ADMIN, Pki, apiserver


class Handler(http.server.BaseHTTPRequestHandler):
    seen: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        self._answer(200 if self.path == "/there" else 404)

    def do_PATCH(self) -> None:
        self._answer(409 if self.path == "/conflict" else 200)

    def _answer(self, status: int) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        kind = self.headers.get("Content-Type")
        self.seen.append({"path": self.path, "kind": kind, "body": body})
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps({"message": f"said {status}"}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """A client of a server that asks for the administrator's certificate."""
    Handler.seen.clear()
    pki = Pki(tmp_path / "pki")
    identity = apiserver([])
    pki.ensure([identity, ADMIN])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki.pair(identity).certificate, pki.pair(identity).key)
    tls.load_verify_locations(pki.authority)
    tls.verify_mode = ssl.CERT_REQUIRED
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"https://127.0.0.1:{server.server_port}"
        yield Api.from_kubeconfig(pki.write_kubeconfig(ADMIN, url, tmp_path / "kubeconfig"))
        server.shutdown()
        thread.join()


def test_objects_are_read(api: Api) -> None:
    assert api.get("/there") == {"message": "said 200"}
    assert api.find("/there") == {"message": "said 200"}


def test_absence_is_none_only_where_it_is_asked_about(api: Api) -> None:
    assert api.find("/nowhere") is None
    with pytest.raises(ApiError, match="answered 404: said 404") as caught:
        api.get("/nowhere")
    assert caught.value.status == 404


def test_a_manifest_is_applied_by_one_manager(api: Api) -> None:
    api.apply("/there", {"kind": "Namespace"})
    assert Handler.seen == [
        {
            "path": "/there?fieldManager=conch-local-cluster&force=true",
            "kind": "application/apply-patch+yaml",
            "body": {"kind": "Namespace"},
        }
    ]


def test_a_refused_change_is_an_error(api: Api) -> None:
    with pytest.raises(ApiError, match="409"):
        api.merge("/conflict", {"metadata": {"labels": {"a": "b"}}})
    assert Handler.seen[0]["kind"] == "application/merge-patch+json"
