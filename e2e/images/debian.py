"""Layers of Debian's own packages on top of the base, with what these packages need."""

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster.cache import Cache, digest
from e2e.cluster.commands import run
from e2e.cluster.progress import Reporter
from e2e.images.base import base_key, unpack_base, wanted
from e2e.images.oci import Layer, load, pack

_RECIPE = "1"  # raise it when the way of building changes
_MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")  # links into /usr in the base
_ARCHIVES = "var/cache/apt/archives"
_NULL = (1, 3)  # the device's numbers


def packages_layer(name: str, packages: Sequence[str], *, cache: Cache, report: Reporter) -> Layer:
    """The files of `packages` and of what they need and the base lacks; none of their scripts ran.

    `name` is the layer's in the cache, before its key.
    """

    def build(work: Path) -> None:
        log = cache.logs / f"{name}.log"
        log.unlink(missing_ok=True)
        root = work / "root"
        with report.step(f"making the layer of {', '.join(packages)}"):
            unpack_base(root, cache=cache, report=report, log=log)
            _download(root, packages, log)
            _extract(root, log)
            pack(root / "tree", work, keep=wanted)
            shutil.rmtree(root)

    key = digest(_RECIPE, base_key(), *packages)
    return load(cache.ensure("layers", f"{name}-{key}", build))


def _download(root: Path, packages: Sequence[str], log: Path) -> None:
    """Leaves the archives that are missing under `root` in its folder of archives."""
    shutil.copyfile("/etc/resolv.conf", root / "etc" / "resolv.conf")
    # What checks signatures needs the device, as a user without rights.
    null = root / "dev" / "null"
    os.mknod(null, stat.S_IFCHR, os.makedev(*_NULL))
    null.chmod(0o666)
    (root / _ARCHIVES / "partial").mkdir(parents=True)
    apt = ("chroot", root, "apt-get", "-q", "-y")
    run([*apt, "-o", "Acquire::Languages=none", "update"], log=log)
    run([*apt, "install", "--download-only", "--no-install-recommends", *packages], log=log)


def _extract(root: Path, log: Path) -> None:
    """Lays the archives' files out in the folder `tree` of `root`."""
    for archive in sorted((root / _ARCHIVES).glob("*.deb")):
        inside = f"/{archive.relative_to(root)}"
        run(["chroot", root, "dpkg-deb", "--extract", inside, "/tree"], log=log)
    merge(root / "tree")


def merge(tree: Path) -> None:
    """Moves what lies in /bin, /lib and so on into /usr, whither the base has links.

    A folder of a layer would take the link's place.
    """
    for name in _MERGED:
        if (tree / name).is_dir():
            shutil.copytree(tree / name, tree / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(tree / name)
