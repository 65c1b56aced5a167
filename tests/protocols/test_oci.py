"""What is a registry's own: layers, platforms, digests, and the ways to log in."""

import base64
import io
import json
import platform
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conch.clients.checksums import digest_of
from conch.clients.downloads import download
from conch.clients.remotes.base import Place
from conch.clients.remotes.downloading import Policy
from conch.clients.remotes.web import Patience
from conch.clients.source_errors import ChecksumMismatchError, SourceUnavailableError
from conch.clients.sources import Request, fetch
from tests.kit.model_servers import PASSWORD, USER, Registry, secret
from tests.kit.web import Asked, Fault, Relay, Reply

POLICY = Policy(patience=Patience(limit=0.5, first_pause=0.01))
TAR = "application/vnd.oci.image.layer.v1.tar"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry.start(tmp_path_factory.mktemp("oci")) as found:
        yield found


@pytest.fixture
def registry(started: Registry, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("NO_PROXY", "*")
    started.relay.forget()
    return started


def _tar(files: dict[str, bytes | None], mode: str = "w:gz") -> bytes:
    """Return an archive; None stands for a link that leads out."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content or b""))
    return out.getvalue()


def _files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def _got(place: Place, folder: Path) -> dict[str, bytes]:
    found = download(place, folder, policy=POLICY)
    return _files(found) if found.is_dir() else {found.name: found.read_bytes()}


def _layer(registry: Registry, name: str, files: dict[str, bytes | None], **more: Any) -> Any:
    return registry.blob(name, _tar(files), **{"mediaType": f"{TAR}+gzip", **more})


def test_the_layers_of_an_image_are_laid_over_one_another(
    registry: Registry, tmp_path: Path
) -> None:
    layers = [
        _layer(registry, "image", {"models/1/model.py/old": b"x", "models/1/gone": b"x"}),
        _layer(registry, "image", {"models/2/a": b"x", "models/2/b": b"x"}),
        _layer(registry, "image", {"models/1/model.py": b"new", "models/1/.wh.gone": b""}),
        _layer(registry, "image", {"models/2/.wh..wh..opq": b"", "models/2/c": b"c"}),
    ]
    registry.image("image", layers)
    place = registry.place("oci://registry.lan/image:1")
    assert _got(place, tmp_path / "to") == {"1/model.py": b"new", "2/c": b"c"}


def test_an_image_becomes_a_model_and_its_digest_is_that_of_the_directory(
    registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir(parents=True)
    (tmp_path / "plain/model.py").write_bytes(b"code")
    layers = [
        _layer(registry, "car", {"bin/busybox": b"x", "bin/sh": None, "etc/passwd": b"root"}),
        _layer(registry, "car", {"models/model.py": b"code"}),
    ]
    registry.image("car", layers)
    place = registry.place("oci://registry.lan/car:1")
    fetch(
        Request(
            uri=place.uri,
            model="digits",
            repository=tmp_path / "models",
            sha256=digest_of(tmp_path / "plain"),
            endpoint=place.endpoint,
            credentials=place.credentials,
        )
    )
    assert _files(tmp_path / "models") == {"digits/1/model.py": b"code"}


def test_a_named_layer_is_a_file_unless_it_says_that_it_is_to_be_unpacked(
    registry: Registry, tmp_path: Path
) -> None:
    title = "org.opencontainers.image.title"
    packed, kept = _tar({"data/a": b"a"}), _tar({"b": b"b"})
    layers = [
        registry.blob(
            "oras", packed, annotations={title: "data", "io.deis.oras.content.unpack": "true"}
        ),
        registry.blob("oras", kept, annotations={title: "kept.tar.gz"}),
        registry.blob("oras", b"w", annotations={"org.cncf.model.filepath": "w.bin"}),
    ]
    layers[2]["mediaType"] = "application/vnd.cncf.model.weight.v1.raw"
    registry.image("oras", layers)
    found = _got(registry.place("oci://registry.lan/oras:1"), tmp_path / "to")
    assert found == {"data/a": b"a", "kept.tar.gz": kept, "w.bin": b"w"}


def test_the_manifest_of_this_machine_is_taken(registry: Registry, tmp_path: Path) -> None:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    rows = []
    for name in ("riscv64", machine):
        layers = [_layer(registry, "many", {"which": name.encode()})]
        row = registry.image("many", layers, tag=name)
        rows.append({**row, "platform": {"os": "linux", "architecture": name}})
    registry.manifest("many", "1", {"schemaVersion": 2, "mediaType": INDEX, "manifests": rows})
    place = registry.place("oci://registry.lan/many:1")
    assert _got(place, tmp_path / "to") == {"which": machine.encode()}
    only = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [rows[0], rows[0]]}
    registry.manifest("many", "2", only)
    with pytest.raises(SourceUnavailableError, match=f"has no manifest for linux/{machine}"):
        _got(registry.place("oci://registry.lan/many:2"), tmp_path / "none")


def test_a_digest_is_held_to(registry: Registry, tmp_path: Path) -> None:
    digest = registry.image("pinned", [_layer(registry, "pinned", {"a": b"a"})])["digest"]
    place = registry.place(f"oci://registry.lan/pinned@{digest}")
    assert _got(place, tmp_path / "to") == {"a": b"a"}
    registry.relay.befall(Fault(flipped=True, match="/manifests/", times=2))
    with pytest.raises(ChecksumMismatchError, match=f"wanted manifest {digest}"):
        _got(place, tmp_path / "wrong")


@pytest.mark.parametrize(
    ("files", "more", "said"),
    [
        ({"a": None}, {}, "which is no plain file"),
        ({"../a": b"x"}, {}, "leads out of it"),
        ({"a": b"x"}, {"mediaType": f"{TAR}+zstd"}, r"\+zstd, which Conch can't read: push it as"),
        (
            {"a": b"x"},
            {"annotations": {"org.opencontainers.image.title": "../a"}},
            "leads out of it",
        ),
    ],
)
def test_layers_that_are_not_to_be_trusted_are_refused(
    registry: Registry, tmp_path: Path, files: dict[str, bytes | None], more: Any, said: str
) -> None:
    registry.image("bad", [_layer(registry, "bad", files, **more)])
    with pytest.raises(SourceUnavailableError, match=said):
        _got(registry.place("oci://registry.lan/bad:1"), tmp_path / "to")


@pytest.mark.parametrize("gate", ["password", "token"])
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"auths": {"registry.lan": {"username": USER, "password": PASSWORD}}}, None),
        ({"auths": {"https://registry.lan/v1/": {"username": USER, "password": PASSWORD}}}, None),
        (
            {"auths": {"registry.lan": {"username": USER, "password": "wrong"}}},
            "these credentials (are refused|may not pull it)",
        ),
        ({"auths": {"ghcr.io": {}}}, "has no login for registry.lan in its .dockerconfigjson"),
        ({"auths": {"registry.lan": {"auth": "%"}}}, "of the Secret login can't be read"),
        ([], "of the Secret login can't be read"),
    ],
)
def test_a_registry_is_logged_in_to(
    registry: Registry, tmp_path: Path, gate: str, values: Any, said: str | None
) -> None:
    registry.image("private", [_layer(registry, "private", {"a": b"a"})])
    place = Place(
        "oci://registry.lan/private:1",
        endpoint=(registry.relay if gate == "password" else registry.tokens).url,
        credentials=secret(tmp_path / "s", __dockerconfigjson=json.dumps(values)),
        secret_name="login",
    )
    if said is None:
        assert _got(place, tmp_path / "to") == {"a": b"a"}
        return
    with pytest.raises(SourceUnavailableError, match=said) as caught:
        _got(place, tmp_path / "to")
    assert "wrong" not in str(caught.value)


def test_a_username_and_a_password_do_too(registry: Registry, tmp_path: Path) -> None:
    registry.image("private", [_layer(registry, "private", {"a": b"a"})])
    given = secret(tmp_path / "s", username=USER, password=PASSWORD)
    place = replace(registry.place("oci://registry.lan/private:1"), credentials=given)
    assert _got(place, tmp_path / "to") == {"a": b"a"}


def test_a_token_that_runs_out_is_asked_for_again(registry: Registry, tmp_path: Path) -> None:
    registry.image("private", [_layer(registry, "private", {"a": b"a"})])
    demand = f'Bearer realm="{registry.tokens.url}/token",service="registry"'
    registry.tokens.befall(Fault(status=401, match="/blobs/", headers={"WWW-Authenticate": demand}))
    place = replace(registry.place("oci://registry.lan/private:1"), endpoint=registry.tokens.url)
    assert _got(place, tmp_path / "to") == {"a": b"a"}


def test_a_mirror_of_many_registries_has_a_path_for_each(
    registry: Registry, tmp_path: Path
) -> None:
    registry.image(
        "dockerhub/library/digits", [_layer(registry, "dockerhub/library/digits", {"a": b"a"})]
    )
    logins = {"auths": {"https://index.docker.io/v1/": {"username": USER, "password": PASSWORD}}}
    place = Place(
        "oci://docker.io/digits:1",
        endpoint=f"{registry.relay.url}/dockerhub",
        credentials=secret(tmp_path / "s", __dockerconfigjson=json.dumps(logins)),
    )
    assert _got(place, tmp_path / "to") == {"a": b"a"}


def test_blobs_of_other_hosts_do_not_get_the_login(registry: Registry, tmp_path: Path) -> None:
    registry.image("moved", [_layer(registry, "moved", {"a": b"a"})])

    class Elsewhere(Relay):
        """Sends to a server of blobs, as registries before cloud storage do."""

        def answer(self, asked: Asked) -> Reply:
            if "/blobs/" not in asked.path:
                return self.handed_on(asked)
            there = blobs.url.replace("127.0.0.1", "localhost")
            return Reply(307, b"", {"Location": there + asked.path})

    class Blobs(Relay):
        def answer(self, asked: Asked) -> Reply:
            given = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            headers = {**asked.headers, "Authorization": f"Basic {given}"}
            return self.handed_on(replace(asked, headers=headers))

    with Blobs(registry.direct) as blobs, Elsewhere(registry.direct) as relay:
        place = replace(registry.place("oci://registry.lan/moved:1"), endpoint=relay.url)
        assert _got(place, tmp_path / "to") == {"a": b"a"}
        assert blobs.asked
        assert not any(a.header("Authorization") for a in blobs.asked)
