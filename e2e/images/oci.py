"""Image archives in the layout of the OCI, as `ctr images import` and `podman load` read them.

The same layers and settings give the same bytes.
"""

import gzip
import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

# Files of layers all carry one date (1 January 2000), so that equal trees give equal layers.
_DATE = 946684800
_CREATED = "2000-01-01T00:00:00Z"
_MEDIA = "application/vnd.oci.image"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_CHUNK = 1 << 20

Keep = Callable[[str], bool]


@dataclass(frozen=True)
class Image:
    """A named image in an archive that is ready to import."""

    name: str
    archive: Path


@dataclass(frozen=True)
class Layer:
    """A compressed tar of files; `digest` is of the blob, `diff_id` of the tar within."""

    blob: Path
    digest: str
    diff_id: str
    size: int  # bytes of the blob


@dataclass(frozen=True)
class Settings:
    """How a container of the image starts unless the pod says otherwise."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    user: str = ""
    folder: str = "/"


class _Sink(Protocol):
    def write(self, data: Any, /) -> Any: ...


@dataclass(frozen=True)
class _Blob:
    media_type: str
    digest: str
    content: Path | bytes
    size: int

    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


def machine_architecture() -> str:
    """The machine's architecture, in the words of image indexes (amd64, arm64)."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def pack(tree: Path, folder: Path, *, keep: Keep = lambda _: True, owners: bool = False) -> Layer:
    """Packs what lies under `tree` into `folder`, whence `load` reads it again.

    `keep` gets each path relative to `tree`, with slashes; a folder that it refuses is left out
    with all it holds. All files belong to root unless `owners` keeps the ones they have.
    """
    blob = folder / "layer.tar.gz"
    with blob.open("wb") as raw:
        compressed = _Hashing(raw)
        # The lowest level: the archives stay on one machine, and time is what they cost there.
        with gzip.GzipFile("", "wb", 1, compressed, mtime=0) as packer:
            plain = _Hashing(packer)
            _write_tree(tree, plain, keep, owners)
    layer = Layer(blob, compressed.digest, plain.digest, compressed.size)
    facts = {key: value for key, value in asdict(layer).items() if key != "blob"}
    (folder / "layer.json").write_text(json.dumps(facts))
    return layer


def load(folder: Path) -> Layer:
    """The layer that `pack` left in `folder`."""
    return Layer(blob=folder / "layer.tar.gz", **json.loads((folder / "layer.json").read_text()))


def content_key(layers: tuple[Layer, ...], settings: Settings) -> str:
    """12 hexadecimal digits that change with what is in the image."""
    manifest, _ = _manifest(layers, settings)
    return manifest.digest.removeprefix("sha256:")[:12]


def write_archive(
    archive: Path, *, name: str, layers: tuple[Layer, ...], settings: Settings
) -> None:
    """Writes the image `name` (registry/repository:tag), lowest layer first, to `archive`."""
    manifest, config = _manifest(layers, settings)
    blobs = {blob.digest: blob for blob in (manifest, config, *map(_layer_blob, layers))}
    index = {
        "schemaVersion": 2,
        "mediaType": f"{_MEDIA}.index.v1+json",
        "manifests": [{**manifest.descriptor(), "annotations": _annotations(name)}],
    }
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", _json(index))
        for digest in sorted(blobs):
            _add(tar, f"blobs/{digest.replace(':', '/')}", blobs[digest].content)


def _annotations(name: str) -> dict[str, str]:
    # containerd names the image by the first; the second is what the layout's own standard has.
    return {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }


def _manifest(layers: tuple[Layer, ...], settings: Settings) -> tuple[_Blob, _Blob]:
    config = _json_blob(f"{_MEDIA}.config.v1+json", _config(layers, settings))
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_MEDIA}.manifest.v1+json",
        "config": config.descriptor(),
        "layers": [_layer_blob(layer).descriptor() for layer in layers],
    }
    return _json_blob(f"{_MEDIA}.manifest.v1+json", manifest), config


def _config(layers: tuple[Layer, ...], settings: Settings) -> dict[str, Any]:
    environment = [f"{key}={value}" for key, value in (settings.environment or {}).items()]
    start = {
        "Entrypoint": list(settings.entrypoint),
        "Cmd": list(settings.command),
        "Env": environment,
        "User": settings.user,
        "WorkingDir": settings.folder,
    }
    return {
        "created": _CREATED,
        "architecture": machine_architecture(),
        "os": "linux",
        "config": {key: value for key, value in start.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": _CREATED} for _ in layers],
    }


def _layer_blob(layer: Layer) -> _Blob:
    return _Blob(f"{_MEDIA}.layer.v1.tar+gzip", layer.digest, layer.blob, layer.size)


def _json_blob(media_type: str, value: Any) -> _Blob:
    content = _json(value)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return _Blob(media_type, digest, content, len(content))


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _add(tar: tarfile.TarFile, name: str, content: Path | bytes) -> None:
    member = tarfile.TarInfo(name)
    member.mtime = _DATE
    if isinstance(content, bytes):
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
        return
    member.size = content.stat().st_size
    with content.open("rb") as file:
        tar.addfile(member, file)


def _write_tree(tree: Path, sink: "_Hashing", keep: Keep, owners: bool) -> None:
    def normal(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime = _DATE
        member.uname = member.gname = ""
        if not owners:
            member.uid = member.gid = 0
        return member

    # A stream is never sought in, so what passes through is what lands in the blob.
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_CHUNK) as tar:
        for path in _walk(tree, tree, keep):
            tar.add(path, str(path.relative_to(tree)), recursive=False, filter=normal)


def _walk(folder: Path, tree: Path, keep: Keep) -> Iterator[Path]:
    """Everything under `folder` that `keep` admits, folders before what they hold, in order."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        path = Path(entry.path)
        if not keep(path.relative_to(tree).as_posix()):
            continue
        yield path
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path, tree, keep)


class _Hashing(io.RawIOBase):
    """Passes writes on, keeping their count and their digest."""

    def __init__(self, sink: _Sink) -> None:
        super().__init__()
        self._sink = sink
        self._hasher = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hasher.hexdigest()}"

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._hasher.update(data)
        self._sink.write(data)
        self.size += len(data)
        return len(data)
