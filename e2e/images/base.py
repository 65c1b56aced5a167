"""The layer below all others: a small Debian with Python."""

import shutil
from pathlib import Path

from e2e.cluster.cache import Cache, digest
from e2e.cluster.commands import run
from e2e.cluster.progress import Reporter
from e2e.images.oci import Layer, load, machine_architecture, pack

SUITE = "bookworm"
PYTHON = "3.11"  # the suite's
USER = 65532  # whom containers run as, by the convention of images without a shell
# libpython is what Triton's python backend embeds.
_PACKAGES = ("python3", "libpython3.11", "ca-certificates")
_RECIPE = "2"  # raise it when the way of building changes

# Left out: device nodes, which the container runtime makes; lists, documentation and caches that
# nothing reads; names of the machine that built it.
_LEFT_OUT = (
    "dev/",
    "proc/",
    "sys/",
    "run/",
    "tmp/",
    "debootstrap",
    "etc/hostname",
    "etc/machine-id",
    "etc/resolv.conf",
    "var/lib/apt/lists/",
    "var/cache/",
    "var/log/",
    "usr/share/doc/",
    "usr/share/info/",
    "usr/share/locale/",
    "usr/share/man/",
)


def base_layer(*, cache: Cache, report: Reporter) -> Layer:
    """Debian minbase with Python, from the distribution's own mirror by debootstrap."""

    def build(work: Path) -> None:
        root = work / "root"
        log = cache.logs / "base.log"
        with report.step(f"making the base file system (Debian {SUITE}, Python {PYTHON})"):
            _debootstrap(root, log)
            _add_user(root)
            compile_python(root, f"/usr/lib/python{PYTHON}", log=log)
            pack(root, work, keep=wanted, owners=True)
            shutil.rmtree(root)

    return load(cache.ensure("layers", base_key(), build))


def base_key() -> str:
    """Names the base layer in the cache; part of the key of each layer that is built on it."""
    return f"base-{digest(_RECIPE, SUITE, machine_architecture(), *_PACKAGES, *_LEFT_OUT)}"


def unpack_base(root: Path, *, cache: Cache, report: Reporter, log: Path) -> None:
    """Lays the base file system out under `root`, to run its programs with chroot."""
    layer = base_layer(cache=cache, report=report)
    root.mkdir()
    run(["tar", "--extract", "--gzip", "--file", layer.blob, "--directory", root], log=log)


def compile_python(root: Path, folder: str, *, log: Path) -> None:
    """Compiles the Python sources in `folder`, as it is called within the file system `root`.

    Containers have a read-only root: what is not compiled here is compiled at each start. The
    files carry no dates to compare, since layers do away with dates.
    """
    flags = ("-q", "-f", "-x", "/(test|tests|idlelib|lib2to3)/")
    mode = ("--invalidation-mode", "unchecked-hash")
    run(
        ["chroot", root, f"/usr/bin/python{PYTHON}", "-m", "compileall", *flags, *mode, folder],
        log=log,
    )


def wanted(path: str) -> bool:
    """Whether the base layer holds `path`, which is relative to its root.

    Folders that are listed above with a slash stay, empty.
    """
    return not any(
        path.startswith(name) if name.endswith("/") else path == name for name in _LEFT_OUT
    )


def _debootstrap(root: Path, log: Path) -> None:
    log.unlink(missing_ok=True)
    options = ("--variant=minbase", f"--include={','.join(_PACKAGES)}")
    run(["debootstrap", *options, SUITE, root], log=log)


def _add_user(root: Path) -> None:
    with (root / "etc" / "passwd").open("a") as users:
        users.write(f"nonroot:x:{USER}:{USER}:nonroot:/tmp:/usr/sbin/nologin\n")
    with (root / "etc" / "group").open("a") as groups:
        groups.write(f"nonroot:x:{USER}:\n")
