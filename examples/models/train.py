"""Train the sample models, measure them, and write what Triton needs to build/models.

``python -m examples.models.train`` takes about ten seconds of CPU time, and next to none when
nothing that goes into the models has changed. Output, for each model:

    build/models/NAME/model.onnx, model.py    config.pbtxt is Conch's to write
    build/models/NAME.tar.gz                  the same, as one download
    build/models/manifest.json                digests and accuracy
"""

import argparse
import fcntl
import gzip
import hashlib
import importlib.metadata
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conch.clients.checksums import digest_of

HERE = Path(__file__).parent
OUTPUT = HERE.parent.parent / "build" / "models"
NAMES = ("digits", "tumor")
MANIFEST = "manifest.json"
_SERVED = HERE / "triton" / "model.py"
_PACKAGES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "scipy", "skl2onnx")

Manifest = dict[str, Any]


def ensure_models(output: Path = OUTPUT, *, force: bool = False) -> Manifest:
    """Train what is missing or out of date below ``output``; return the manifest.

    The manifest: ``inputs`` (digest of what went in) and ``models``, by name: ``sha256`` of the
    directory as ``kubectl conch digest`` prints it, ``archive_sha256`` of NAME.tar.gz,
    ``accuracy`` as in a Model's variant, ``held_out`` items, ``ms_per_item`` on a core of the
    machine that trained it. Several processes may call this at once; one trains.
    """
    output.mkdir(parents=True, exist_ok=True)
    with _locked(output / ".lock"):
        known = _known(output)
        if known is None or force:
            known = _train(output)
        return known


def inputs_digest() -> str:
    """Return a digest of all that decides what the models become: code and library versions."""
    total = hashlib.sha256()
    for path in sorted(HERE.rglob("*.py")):
        total.update(f"{path.relative_to(HERE)} {digest_of(path)}\n".encode())
    for package in _PACKAGES:
        total.update(f"{package}=={importlib.metadata.version(package)}\n".encode())
    return total.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _known(output: Path) -> Manifest | None:
    """Return the manifest where it is up to date and the files are as it says."""
    path = output / MANIFEST
    if not path.exists():
        return None
    manifest: Manifest = json.loads(path.read_text())
    if manifest["inputs"] != inputs_digest():
        return None
    whole = all(_whole(output, name, facts) for name, facts in manifest["models"].items())
    return manifest if whole else None


def _whole(output: Path, name: str, facts: dict[str, Any]) -> bool:
    folder, archive = output / name, output / f"{name}.tar.gz"
    if not folder.is_dir() or not archive.is_file():
        return False
    found = (digest_of(folder), digest_of(archive))
    return found == (facts["sha256"], facts["archive_sha256"])


def _train(output: Path) -> Manifest:
    manifest = {"inputs": inputs_digest(), "models": {n: _trained(output, n) for n in NAMES}}
    fresh = output / f".{MANIFEST}"
    fresh.write_text(json.dumps(manifest, indent=2) + "\n")
    fresh.replace(output / MANIFEST)
    return manifest


def _trained(output: Path, name: str) -> dict[str, Any]:
    # Here, so that models which are up to date cost no import of scikit-learn.
    from examples.models import digits, sample, tumor  # noqa: PLC0415

    made = {"digits": digits, "tumor": tumor}[name].train()
    judged = sample.judge(made)
    _write(output, name, made.model.SerializeToString())
    return {
        "sha256": digest_of(output / name),
        "archive_sha256": digest_of(output / f"{name}.tar.gz"),
        "accuracy": {"metric": "top1", "value": judged.top1, "dataset": made.dataset},
        "held_out": judged.items,
        "ms_per_item": judged.ms_per_item,
    }


def _write(output: Path, name: str, model: bytes) -> None:
    """Put the model's directory and archive in place, each whole or not at all."""
    with tempfile.TemporaryDirectory(dir=output, prefix=".train-") as scratch:
        folder = Path(scratch, name)
        folder.mkdir()
        (folder / "model.onnx").write_bytes(model)
        shutil.copyfile(_SERVED, folder / "model.py")
        archive = Path(scratch, f"{name}.tar.gz")
        _pack(folder, archive)
        shutil.rmtree(output / name, ignore_errors=True)
        folder.rename(output / name)
        archive.replace(output / archive.name)


def _pack(folder: Path, archive: Path) -> None:
    """Pack a directory's files so that equal files give an equal archive."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name, filter=_plain)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = member.uid = member.gid = 0
    member.mode = 0o644
    member.uname = member.gname = ""
    return member


def main() -> None:
    """Train and say what came out."""
    parser = argparse.ArgumentParser(description="Train the sample models.")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--force", action="store_true", help="train even what is up to date")
    given = parser.parse_args()
    manifest = ensure_models(given.output, force=given.force)
    for name, facts in manifest["models"].items():
        accuracy = facts["accuracy"]
        print(f"{name}: {given.output / name}")
        print(f"  {accuracy['metric']} {accuracy['value']} on {facts['held_out']} held-out items")
        print(f"  {facts['ms_per_item']} ms an item on one core")
        print(f"  sha256 {facts['sha256']}, of {name}.tar.gz {facts['archive_sha256']}")


if __name__ == "__main__":
    main()
