"""Real servers of the protocols that models are downloaded by, each behind a relay that makes faults.

All have the same face, so that one contract is tested with each.
"""

import base64
import hashlib
import json
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

import obstore
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from obstore.store import S3Store

from conch.clients.remotes.base import Place
from e2e.cluster.artifacts import ensure_binaries
from e2e.cluster.pki import Identity, Pki
from e2e.cluster.ports import free_ports
from e2e.cluster.progress import terminal_reporter
from tests.kit.web import Asked, Relay, Reply, Server, Shelf, basic, ranged

USER, PASSWORD = "conch", "tide-and-wave"
_HASH = "$2y$05$abcdefghijklmnopqrstuuiaq8N3MsEIsEiH8O/rCTEcBbh38t69e"
"""That of the password, as registries want it (bcrypt)."""
Files = Mapping[str, bytes]


class ModelServer(Protocol):
    """A server of one protocol: what it holds, and how it is reached with the right credentials."""

    @property
    def relay(self) -> Server:
        """Counts, and makes faults; for those of data use ``data``."""

    @property
    def data(self) -> Mapping[str, Any]:
        """What a Fault must say to befall the bytes of files and nothing else."""

    def put(self, name: str, files: Files) -> str:
        """Store a model and return the URI of its directory."""

    def put_file(self, name: str, content: bytes) -> str:
        """Store one file of this name and return its URI."""

    def place(self, uri: str) -> Place:
        """Return how a source is reached, with what it takes to be let in."""

    def stranger(self, uri: str) -> Place:
        """Return how a source is reached by who has no credentials."""


@contextmanager
def running(program: str, words: list[str], *, port: int, log: Path) -> Iterator[None]:
    """Run a server until it is no longer wanted; it listens when the body begins."""
    folder = ensure_binaries([program], report=terminal_reporter())
    with log.open("wb") as out:
        process = subprocess.Popen([folder / program, *words], stdout=out, stderr=out)
    try:
        _await_answer(process, port, log)
        yield
    finally:
        process.kill()
        process.wait(10)


def _await_answer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            requests.get(f"http://127.0.0.1:{port}/", timeout=5)
        except requests.ConnectionError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"the server does not answer: {log.read_text()}")


def certificate(folder: Path) -> tuple[Path, tuple[Path, Path]]:
    """Return the authority, and the certificate and key of a server on loopback."""
    pki, identity = Pki(folder), Identity("web", "web", names=("localhost", "127.0.0.1"))
    pki.ensure([identity])
    pair = pki.pair(identity)
    return pki.authority, (pair.certificate, pair.key)


def secret(folder: Path, **values: str) -> Path:
    """Write what a mounted Secret looks like; a key's ``__`` stands for a dot."""
    folder.mkdir(parents=True)
    for name, value in values.items():
        (folder / name.replace("__", ".")).write_text(value)
    return folder


class _Bucket(ABC):
    """What servers of buckets behind a relay have in common."""

    relay: Relay
    credentials: Path

    @abstractmethod
    def put(self, name: str, files: Files) -> str:
        """Store a model."""

    def put_file(self, name: str, content: bytes) -> str:
        """Store one file."""
        return f"{self.put('single', {name: content})}/{name}"

    def place(self, uri: str) -> Place:
        """Return how it is reached."""
        return Place(uri, endpoint=self.relay.url, credentials=self.credentials)

    def stranger(self, uri: str) -> Place:
        """Return how it is reached without credentials."""
        return Place(uri, endpoint=self.relay.url)


@dataclass
class S3(_Bucket):
    """versitygw, an S3 server over a directory, which checks signatures."""

    folder: Path
    relay: Relay
    credentials: Path
    data: Mapping[str, Any] = field(default_factory=lambda: {"method": "GET", "match": "/models/"})

    @classmethod
    @contextmanager
    def start(cls, folder: Path, *, host: str = "127.0.0.1") -> Iterator["S3"]:
        """Run it; ``host`` is where its relay listens."""
        (folder / "data/models").mkdir(parents=True)
        (port,) = free_ports(1)
        words = ["--access", USER, "--secret", PASSWORD, "--port", f"127.0.0.1:{port}", "--quiet"]
        words += ["posix", str(folder / "data")]
        given = secret(folder / "secret", AWS_ACCESS_KEY_ID=USER, AWS_SECRET_ACCESS_KEY=PASSWORD)
        with (
            running("versitygw", words, port=port, log=folder / "log"),
            Relay(f"http://127.0.0.1:{port}", host) as relay,
        ):
            yield cls(folder, relay, given)

    def store(self) -> S3Store:
        """Return a client of it."""
        return S3Store(
            "models",
            endpoint=self.relay.url,
            region="us-east-1",
            access_key_id=USER,
            secret_access_key=PASSWORD,
            client_options={"allow_http": True},
        )

    def put(self, name: str, files: Files) -> str:
        """Store a model."""
        for path, content in files.items():
            obstore.put(self.store(), f"{name}/{path}", content, use_multipart=False)
        return f"s3://models/{name}"


class _Guarded(Relay):
    """A relay that asks for a Google token, and the server that gives it for a signed question."""

    TOKEN = "ya29.good"

    def answer(self, asked: Asked) -> Reply:
        """Answer with a token, or what the other server answers to who has one."""
        if asked.path == "/token":
            grant = parse_qs(asked.body.decode())["assertion"][0].split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(grant + "=="))
            known = claims["iss"] == USER
            body = {"access_token": self.TOKEN if known else "bad", "expires_in": 3600}
            return _json(body)
        if asked.header("Authorization") != f"Bearer {self.TOKEN}":
            return _json({"error": {"code": 401, "message": "Anonymous caller"}}, status=401)
        return self.handed_on(asked)


@dataclass
class GoogleStorage(_Bucket):
    """fake-gcs-server behind a relay that asks for tokens, which it does not check itself."""

    direct: str
    relay: Relay
    credentials: Path
    data: Mapping[str, Any] = field(default_factory=lambda: {"match": "alt=media"})

    @classmethod
    @contextmanager
    def start(cls, folder: Path) -> Iterator["GoogleStorage"]:
        """Run it."""
        (port,) = free_ports(1)
        words = ["-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
        direct = f"http://127.0.0.1:{port}"
        folder.mkdir(parents=True, exist_ok=True)
        with (
            running(
                "fake-gcs-server", [*words, "-external-url", direct], port=port, log=folder / "log"
            ),
            _Guarded(direct) as relay,
        ):
            key = service_account(f"{relay.url}/token")
            given = secret(folder / "secret", **{"service-account__json": json.dumps(key)})
            answer = requests.post(f"{direct}/storage/v1/b", json={"name": "models"}, timeout=10)
            answer.raise_for_status()
            yield cls(direct, relay, given)

    def put(self, name: str, files: Files) -> str:
        """Store a model."""
        for path, content in files.items():
            url = f"{self.direct}/upload/storage/v1/b/models/o?uploadType=media"
            key = quote(f"{name}/{path}", safe="")
            requests.post(f"{url}&name={key}", data=content, timeout=10).raise_for_status()
        return f"gs://models/{name}"


def service_account(token_uri: str, email: str = USER) -> dict[str, str]:
    """Return a key of a Google service account, whose tokens come from ``token_uri``."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": email,
        "token_uri": token_uri,
    }


class Hub(Server):
    """The model hub's API as huggingface_hub uses it; large files lie on a server of their own."""

    TOKEN = "hf_good"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.relay = self.cdn = Shelf()
        self.data: Mapping[str, Any] = {"match": "/lfs/"}
        self.commits: dict[tuple[str, str], Files] = {}
        self.branches: dict[tuple[str, str], str] = {}
        self.gated: set[str] = set()
        self.credentials = secret(folder / "secret", HF_TOKEN=self.TOKEN)

    def __enter__(self) -> Self:
        self.cdn.__enter__()
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self.cdn.__exit__(kind, error, trace)

    def put(self, name: str, files: Files, revision: str = "main") -> str:
        """Store a model."""
        repository = f"org/{name}"
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[repository, commit] = files
        self.branches[repository, revision] = commit
        for content in files.values():
            self.cdn.files[f"/lfs/{hashlib.sha256(content).hexdigest()}"] = content
        return f"hf://{repository}"

    def put_file(self, name: str, content: bytes) -> str:
        """Store one file."""
        return f"{self.put('single', {name: content})}/{name}"

    def place(self, uri: str) -> Place:
        """Return how it is reached."""
        return Place(uri, endpoint=self.url, credentials=self.credentials)

    def stranger(self, uri: str) -> Place:
        """Return how it is reached without credentials."""
        return Place(uri, endpoint=self.url)

    def answer(self, asked: Asked) -> Reply:
        """Answer to the hub's API, and with files of a commit."""
        parts = [unquote(p) for p in urlsplit(asked.path).path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            return self._described(
                asked, "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main"
            )
        return self._resolved(asked, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def _described(self, asked: Asked, repository: str, revision: str) -> Reply:
        if repository in self.gated:
            return _refused(403, "GatedRepo")
        known = any(r == repository for r, _ in self.branches)
        if not known or asked.header("Authorization") != f"Bearer {self.TOKEN}":
            return _refused(401, "RepoNotFound")
        commit = self.branches.get((repository, revision), revision)
        files = self.commits.get((repository, commit))
        if files is None:
            return _refused(404, "RevisionNotFound")
        siblings = [_sibling(path, content) for path, content in files.items()]
        return _json({"id": repository, "sha": commit, "siblings": siblings})

    def _resolved(self, asked: Asked, repository: str, commit: str, path: str) -> Reply:
        if asked.header("Authorization") != f"Bearer {self.TOKEN}":
            return _refused(401, "RepoNotFound")
        content = self.commits[repository, commit][path]
        if not _is_large(content):
            return ranged(asked, content)
        there = self.cdn.url.replace("127.0.0.1", "localhost")
        digest = hashlib.sha256(content).hexdigest()
        return Reply(302, b"", {"Location": f"{there}/lfs/{digest}"})


def _is_large(content: bytes) -> bool:
    return len(content) > 1000


def _sibling(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    row: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": blob}
    if _is_large(content):
        digest = hashlib.sha256(content).hexdigest()
        row["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
    return row


def _refused(status: int, code: str) -> Reply:
    headers = {"X-Error-Code": code, "X-Error-Message": code, "Content-Type": "application/json"}
    return Reply(status, b'{"error": "made up"}', headers)


class _TokenGate(Relay):
    """A relay that asks for tokens as large registries do, before a registry that asks for a password."""

    TOKEN = "pull-token"

    def answer(self, asked: Asked) -> Reply:
        """Answer with a token, or what the registry answers to who has one."""
        path = urlsplit(asked.path).path
        if path == "/token":
            words = parse_qs(urlsplit(asked.path).query)
            known = asked.header("Authorization") == basic(USER, PASSWORD)
            right = words["scope"][0].endswith(":pull") and words["service"] == ["registry"]
            return _json({"token": self.TOKEN}) if known and right else Reply(401, b"no")
        if asked.header("Authorization") != f"Bearer {self.TOKEN}":
            scope = f"repository:{path.removeprefix('/v2/').partition('/manifests')[0]}:pull"
            demand = f'Bearer realm="{self.url}/token",service="registry",scope="{scope}"'
            return Reply(401, b"{}", {"WWW-Authenticate": demand})
        headers = {k: v for k, v in asked.headers.items() if k.lower() != "authorization"}
        return self.handed_on(
            Asked(asked.method, asked.path, {**headers, "Authorization": basic(USER, PASSWORD)})
        )


@dataclass
class Registry:
    """The distribution project's registry, which wants a password."""

    direct: str
    relay: Relay
    tokens: Relay
    credentials: Path
    data: Mapping[str, Any] = field(default_factory=lambda: {"match": "/blobs/"})

    @classmethod
    @contextmanager
    def start(cls, folder: Path) -> Iterator["Registry"]:
        """Run it."""
        folder.mkdir(parents=True, exist_ok=True)
        (port,) = free_ports(1)
        (folder / "users").write_text(f"{USER}:{_HASH}\n")
        config = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": f"127.0.0.1:{port}", "secret": "any"},
            "auth": {"htpasswd": {"realm": "registry", "path": str(folder / "users")}},
        }
        (folder / "config.yml").write_text(json.dumps(config))
        direct = f"http://127.0.0.1:{port}"
        words = ["serve", str(folder / "config.yml")]
        with (
            running("registry", words, port=port, log=folder / "log"),
            Relay(direct) as relay,
            _TokenGate(direct) as tokens,
        ):
            login = {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
            logins = {"auths": {"registry.lan": login}}
            given = secret(folder / "secret", __dockerconfigjson=json.dumps(logins))
            yield cls(direct, relay, tokens, given)

    def blob(self, repository: str, content: bytes, **more: Any) -> dict[str, Any]:
        """Push a blob and return its descriptor."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        base = f"{self.direct}/v2/{repository}/blobs"
        begun = self._call("POST", f"{base}/uploads/")
        where = begun.headers["Location"]
        glue = "&" if "?" in where else "?"
        self._call(
            "PUT",
            f"{where}{glue}digest={digest}",
            data=content,
            headers={"Content-Type": "application/octet-stream"},
        )
        kind = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest}
        return {**kind, "size": len(content), **more}

    def manifest(self, repository: str, tag: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Push a manifest or an index and return its descriptor."""
        text = json.dumps(body).encode()
        self._call(
            "PUT",
            f"{self.direct}/v2/{repository}/manifests/{tag}",
            data=text,
            headers={"Content-Type": body["mediaType"]},
        )
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        return {"mediaType": body["mediaType"], "digest": digest, "size": len(text)}

    def image(
        self, repository: str, layers: list[dict[str, Any]], tag: str = "1"
    ) -> dict[str, Any]:
        """Push a manifest with these layers."""
        config = self.blob(repository, b"{}")
        return self.manifest(
            repository,
            tag,
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {**config, "mediaType": "application/vnd.oci.empty.v1+json"},
                "layers": layers,
            },
        )

    def put(self, name: str, files: Files) -> str:
        """Store a model as oras does: a layer for each file."""
        self.image(name, [self._file(name, path, content) for path, content in files.items()])
        return f"oci://registry.lan/{name}:1"

    def put_file(self, name: str, content: bytes) -> str:
        """Store an artifact of one file."""
        return self.put("single", {name: content})

    def _file(self, repository: str, path: str, content: bytes) -> dict[str, Any]:
        title = {"org.opencontainers.image.title": path}
        return self.blob(repository, content, annotations=title)

    def place(self, uri: str) -> Place:
        """Return how it is reached."""
        return Place(uri, endpoint=self.relay.url, credentials=self.credentials)

    def stranger(self, uri: str) -> Place:
        """Return how it is reached without credentials."""
        return Place(uri, endpoint=self.relay.url)

    def _call(self, method: str, url: str, **more: Any) -> requests.Response:
        answer = requests.request(method, url, auth=(USER, PASSWORD), timeout=10, **more)
        answer.raise_for_status()
        return answer


def _json(body: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(body).encode(), {"Content-Type": "application/json"})
