"""What a front door takes on itself: certificates, signed tokens, a restart, floods, its twin."""

import base64
import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from conch.clients.clock import SystemClock
from e2e.cluster.pki import Identity, Pki
from tests.control_plane.test_front_door import answers, key_of
from tests.kit.control_plane import Cluster
from tests.kit.front_door import HOME, FrontDoor, front_door
from tests.kit.proxy import wait_for

SECRETS = f"/api/v1/namespaces/{HOME}/secrets"


@pytest.fixture(scope="module")
def door(cluster: Cluster) -> Iterator[FrontDoor]:
    """A front door for the tests that change nothing of it."""
    with front_door(cluster) as found:
        yield found


def quantile(seconds: list[float], share: float) -> float:
    """Return a quantile of times."""
    return sorted(seconds)[int(share * (len(seconds) - 1))]


def test_kept_alive_connections_live_through_reloads_and_a_restart_of_the_agent(
    door: FrontDoor, namespace: str
) -> None:
    key, name = key_of(namespace), f"{namespace}/steady"
    door.key(namespace, key=key)
    door.service(namespace, "steady", pods=2)
    answers(door, name, key)
    stop, asked = threading.Event(), []
    failed: list[object] = []

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", door.http, timeout=20)
        headers = {"Authorization": f"Bearer {key}"}
        while not stop.is_set():
            asked.append(1)
            try:
                connection.request(
                    "POST", f"/{name}/v2/models/digits/infer", b'{"inputs":[{}]}', headers
                )
                told = connection.getresponse()
                told.read()
                if told.status != 200:
                    failed.append(told.status)
            except (OSError, http.client.HTTPException) as error:
                failed.append(repr(error))
                connection.close()
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(4):
        door.service(namespace, f"more-{number}")
        answers(door, f"{namespace}/more-{number}", key)
    assert door.agent is not None
    door.agent.kill()
    door.agent.wait()
    door.start_agent()
    door.service(namespace, "after")
    answers(door, f"{namespace}/after", key)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed, f"{len(failed)} of {len(asked)}: {failed[:3]}"
    assert len(asked) > 200


def test_a_certificate_is_renewed_without_a_reload(cluster: Cluster, tmp_path: Path) -> None:
    first, second = (certificate(tmp_path / n) for n in ("first", "second"))
    body = {"metadata": {"name": "door-tls"}, "type": "kubernetes.io/tls", "data": first}
    with front_door(cluster, "--tls-secret", "door-tls") as door:
        path = f"{SECRETS}/door-tls"
        cluster.client.create(SECRETS, body)
        wait_for(lambda: served(door) == _der(first), "the certificate", timeout=15)
        reloads = metric(door, "conch_front_door_reloads")
        cluster.client.merge(path, {"data": second})
        wait_for(lambda: served(door) == _der(second), "the new certificate", timeout=5)
        assert metric(door, "conch_front_door_reloads") == reloads
        cluster.client.delete(path)


def certificate(directory: Path) -> dict[str, str]:
    """Return a new certificate as a Secret holds it."""
    identity = Identity("door", "door", names=("door.test",))
    Pki(directory).ensure([identity])
    pair = Pki(directory).pair(identity)
    files = {"tls.crt": pair.certificate, "tls.key": pair.key}
    return {name: base64.b64encode(file.read_bytes()).decode() for name, file in files.items()}


def _der(data: dict[str, str]) -> bytes:
    return ssl.PEM_cert_to_DER_cert(base64.b64decode(data["tls.crt"]).decode().strip())


def served(door: FrontDoor) -> bytes | None:
    """Return the certificate that the front door shows now."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", door.https), timeout=5) as raw,
            context.wrap_socket(raw) as wrapped,
        ):
            return wrapped.getpeercert(binary_form=True)
    except OSError:
        return None


def metric(door: FrontDoor, name: str) -> float:
    """Return a metric without labels."""
    [line] = [x for x in door.metrics().splitlines() if x.startswith(f"{name} ")]
    return float(line.split()[1])


def test_a_signed_token_stands_for_a_key(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    mine, other = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    public = mine.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "jwt.pem").write_bytes(public)
    options = ("--jwt-algorithm", "RS256", "--jwt-key", str(tmp_path / "jwt.pem"))
    issuer = ("--jwt-issuer", "https://issuer.test", "--jwt-audience", "models")
    with front_door(cluster, *options, *issuer) as door:
        door.service(namespace, "digits")
        name, now = f"{namespace}/digits", int(SystemClock().wall())
        good = {
            "tenant": f"namespace/{namespace}",
            "exp": now + 600,
            "iss": "https://issuer.test",
            "aud": "models",
        }
        answers(door, name, token(mine, good))
        for change in (
            {"exp": now - 1},
            {"exp": None},
            {"nbf": now + 600},
            {"iss": "https://elsewhere.test"},
            {"aud": "others"},
            {"tenant": None},
        ):
            claims = {k: v for k, v in {**good, **change}.items() if v is not None}
            assert door.infer(name, key=token(mine, claims)).status == 401, change
        assert door.infer(name, key=token(other, good)).status == 401
        assert door.infer(name, key=token(mine, good, algorithm="none")).status == 401
        unsigned = token(mine, good, algorithm="none").rpartition(".")[0]
        for signature in ("", ".", ".AAAA"):
            assert door.infer(name, key=unsigned + signature).status == 401
        elsewhere = {**good, "tenant": "namespace/elsewhere"}
        assert door.infer(name, key=token(mine, elsewhere)).status == 404
        assert door.infer(name, key=token(mine, {**good, "nbf": now - 5})).status == 200


def token(key: rsa.RSAPrivateKey, claims: dict[str, Any], *, algorithm: str = "RS256") -> str:
    """Return a JSON Web Token (RFC 7519)."""

    def coded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    head = coded(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    signed = f"{head}.{coded(json.dumps(claims).encode())}"
    signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{coded(signature)}"


def test_limits_hold_over_two_replicas(cluster: Cluster, namespace: str) -> None:
    with front_door(cluster) as one, front_door(cluster) as two:
        for number in range(2):
            _peer(one, f"door-{number}")
        key, name = key_of(namespace), f"{namespace}/limited"
        one.key(namespace, key=key)
        one.service(namespace, "limited", limits={"requestsPerSecond": 40})
        for found in (one, two):
            answers(found, name, key)
        time.sleep(1.5)
        begun, through = time.monotonic(), 0
        with ThreadPoolExecutor(4) as pool:
            while time.monotonic() - begun < 3:
                asked = [pool.submit(d.infer, name, key=key) for d in (one, two, one, two)]
                through += sum(f.result().status == 200 for f in asked)
        assert 60 <= through <= 165, through
        for number in range(2):
            cluster.client.delete(f"/api/v1/namespaces/{HOME}/pods/door-{number}", grace_seconds=0)


def _peer(door: FrontDoor, name: str) -> None:
    """Make an object of a pod of the front door, which is ready."""
    client, pods = door.client, f"/api/v1/namespaces/{HOME}/pods"
    accounts = f"/api/v1/namespaces/{HOME}/serviceaccounts"
    if client.find(f"{accounts}/default") is None:
        client.create(accounts, {"metadata": {"name": "default"}})
    client.create(
        pods,
        {
            "metadata": {"name": name, "labels": {"conch.dev/front-door": "on"}},
            "spec": {
                "containers": [{"name": "haproxy", "image": "haproxy"}],
                "automountServiceAccountToken": False,
            },
        },
    )
    status = {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}
    client.merge(f"{pods}/{name}/status", {"status": status})


def test_slow_half_open_and_many_connections_harm_nobody(cluster: Cluster, namespace: str) -> None:
    with (
        front_door(cluster, "--max-connections-per-source", "300") as door,
        contextlib.ExitStack() as opened,
    ):
        key, name = key_of(namespace), f"{namespace}/digits"
        door.key(namespace, key=key)
        door.service(namespace, "digits")
        answers(door, name, key)
        quiet = [door.infer(name, key=key).seconds for _ in range(100)]
        sockets = [opened.enter_context(_slow(door)) for _ in range(250)]
        flooded = [door.infer(name, key=key) for _ in range(100)]
        assert {a.status for a in flooded} == {200}
        worst, before = quantile([a.seconds for a in flooded], 0.95), quantile(quiet, 0.95)
        assert worst < max(10 * before, 0.25), (worst, before)
        # One address has no more than its share; what is beyond is cut off, long before its head is late.
        more = [opened.enter_context(_slow(door)) for _ in range(150)]
        wait_for(lambda: sum(_is_cut(s) for s in more) >= 90, "what is beyond is cut", timeout=5)
        # A head that never ends is given up, so that the address may ask again.
        wait_for(lambda: all(_is_cut(s) for s in sockets), "they are given up", timeout=20)
        assert door.infer(name, key=key).status == 200


def _slow(door: FrontDoor) -> socket.socket:
    """Open a connection whose request never ends."""
    found = socket.socket()
    found.settimeout(5)
    with contextlib.suppress(ConnectionError):  # cut off at once
        found.connect(("127.0.0.1", door.http))
        found.sendall(b"POST /a/b HTTP/1.1\r\nHost: a\r\nX-Slow: ")
    found.setblocking(False)
    return found


def _is_cut(found: socket.socket) -> bool:
    """Tell whether the other side has ended a connection."""
    try:
        while found.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
