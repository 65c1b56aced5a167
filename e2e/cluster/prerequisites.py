"""What the machine itself must bring: Linux, root, and a handful of Debian packages."""

import contextlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.cache import Cache, default_root
from e2e.cluster.commands import BuildError, run
from e2e.cluster.progress import Reporter

_SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")
_CNI_FOLDERS = (Path("/opt/cni/bin"), Path("/usr/lib/cni"), Path("/usr/libexec/cni"))
_POLICY = Path("/usr/sbin/policy-rc.d")
_DISK = 12 << 30  # bytes: the cache, Go's own caches and two nodes' images


class PrerequisiteError(Exception):
    """The machine lacks something that the local cluster needs and could not be given it."""


@dataclass(frozen=True)
class Prerequisite:
    """A program (or a CNI plugin) and the Debian package that has it."""

    program: str
    package: str
    purpose: str
    plugin: bool = False

    def find(self) -> Path | None:
        """Where it is, or None."""
        return find_plugin(self.program) if self.plugin else find_program(self.program)


PREREQUISITES = (
    Prerequisite("containerd", "containerd", "runs the containers of a node"),
    Prerequisite("ctr", "containerd", "imports images"),
    Prerequisite("runc", "runc", "starts containers"),
    Prerequisite("bridge", "containernetworking-plugins", "joins pods to a network", plugin=True),
    Prerequisite("iptables", "iptables", "carries Services"),
    Prerequisite("nft", "nftables", "removes the tables that iptables leaves empty"),
    Prerequisite("conntrack", "conntrack", "lets kube-proxy forget old connections"),
    Prerequisite("ipset", "ipset", "holds the addresses of Services"),
    Prerequisite("ip", "iproute2", "makes bridges and addresses"),
    Prerequisite("mount", "mount", "mounts volumes"),
    Prerequisite("nsenter", "util-linux", "enters the namespaces of pods"),
    Prerequisite("debootstrap", "debootstrap", "makes the base of the images"),
)

# What tests run on this machine itself; the cluster has it in an image.
HAPROXY = Prerequisite("haproxy", "haproxy", "is the front door's proxy")


def find_program(name: str) -> Path | None:
    """The program, also where only root's PATH would find it."""
    search = os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM_PATH])
    found = shutil.which(name, path=search)
    return Path(found) if found else None


def find_plugin(name: str) -> Path | None:
    """The CNI plugin, in the folders that distributions use."""
    return next((folder / name for folder in _CNI_FOLDERS if (folder / name).is_file()), None)


def missing(prerequisites: Iterable[Prerequisite] = PREREQUISITES) -> list[Prerequisite]:
    """Those that this machine lacks."""
    return [one for one in prerequisites if one.find() is None]


def describe(lacking: Iterable[Prerequisite]) -> str:
    """One line for each: what is missing, what for, and the package that brings it."""
    return "\n".join(
        f"  {one.program} ({one.purpose}): Debian package {one.package}" for one in lacking
    )


def ensure_prerequisites(*, report: Reporter, cache: Cache | None = None) -> None:
    """Checks the machine, and installs the Debian packages that it lacks.

    Services that such a package brings are neither started now nor at the next boot. Raises
    PrerequisiteError, which names all that is missing, and BuildError where apt-get failed.
    """
    cache = cache or Cache(default_root())
    if problems := machine_problems(cache.root):
        raise PrerequisiteError("\n".join(problems))
    _bring(missing, report, cache)


def ensure_program(wanted: Prerequisite, *, report: Reporter, cache: Cache | None = None) -> Path:
    """Where a program is that only some tests need; where it is absent, its package is installed.

    Fails as `ensure_prerequisites` does.
    """
    cache = cache or Cache(default_root())
    if not wanted.find():
        if os.geteuid() != 0:
            raise PrerequisiteError(f"Missing, and only root can install it:\n{describe([wanted])}")
        # Tests run side by side; the second finds what the first brought.
        with cache.locked(f"program-{wanted.program}"):
            _bring(lambda: missing([wanted]), report, cache)
    found = wanted.find()
    if found is None:
        raise PrerequisiteError(f"Gone after its installation:\n{describe([wanted])}")
    return found


def _bring(lacks: Callable[[], list[Prerequisite]], report: Reporter, cache: Cache) -> None:
    """Installs what `lacks` names, until it names nothing."""
    lacking = lacks()
    if not lacking:
        return
    if not find_program("apt-get"):
        raise PrerequisiteError(
            f"Missing, and there is no apt-get to install them with:\n{describe(lacking)}"
        )
    _install(sorted({one.package for one in lacking}), report, cache)
    if still := lacks():
        raise PrerequisiteError(f"Still missing after their installation:\n{describe(still)}")


def machine_problems(cache_root: Path) -> list[str]:
    """What no package can mend, one sentence each."""
    if sys.platform != "linux":
        return [f"The local cluster needs Linux; this is {platform.system()}. Use KUBECONFIG."]
    problems = []
    if os.geteuid() != 0:
        problems.append(
            "The local cluster needs root: it makes network interfaces, mounts and cgroups. "
            "Run it with sudo, or set KUBECONFIG to use another cluster."
        )
    if not Path("/sys/fs/cgroup").is_dir():
        problems.append("There are no cgroups at /sys/fs/cgroup.")
    free = _free_bytes(cache_root)
    # A cache that is there already has most of what it will need.
    if free < _DISK and not (cache_root / "images").is_dir():
        problems.append(
            f"{cache_root} needs {_DISK >> 30} GiB of free disk; {free >> 30} are free."
        )
    return problems


def _free_bytes(path: Path) -> int:
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    return shutil.disk_usage(existing).free


def _install(packages: list[str], report: Reporter, cache: Cache) -> None:
    log = cache.logs / "apt.log"
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=600"]
    with cache.locked("apt"), report.step(f"installing {', '.join(packages)}"):
        before = _units()
        with services_held_back(_POLICY):
            run([*apt, "update"], log=log, env=quiet)
            run([*apt, "install", "--no-install-recommends", *packages], log=log, env=quiet)
        _disable(_units() - before, log)


@contextlib.contextmanager
def services_held_back(policy: Path) -> Iterator[None]:
    """Keeps Debian's packages from starting their services meanwhile (by policy-rc.d)."""
    if policy.exists():
        yield  # The administrator's policy stands.
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


def _units() -> set[str]:
    """The services that start with the machine."""
    folder = Path("/etc/systemd/system/multi-user.target.wants")
    return {path.name for path in folder.glob("*.service")} if folder.is_dir() else set()


def _disable(units: set[str], log: Path) -> None:
    if not units or not find_program("systemctl"):
        return
    # Without systemd running there is nothing that would start them either.
    with contextlib.suppress(BuildError):
        run(["systemctl", "disable", "--now", *sorted(units)], log=log)
