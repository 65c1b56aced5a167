import os
from pathlib import Path

import pytest

from e2e.cluster import settings
from e2e.cluster.cgroups import Cgroups, Hierarchy, parse_mounts
from e2e.cluster.settings import ClusterError

HYBRID = """\
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0
/dev/vda / ext4 rw 0 0
"""


def test_hierarchies_are_found_with_their_controllers() -> None:
    assert parse_mounts(HYBRID) == [
        Hierarchy(Path("/sys/fs/cgroup/cpu,cpuacct"), 1, frozenset({"cpu", "cpuacct"})),
        Hierarchy(Path("/sys/fs/cgroup/cpuset"), 1, frozenset({"cpuset"})),
        Hierarchy(Path("/sys/fs/cgroup/systemd"), 1),
        Hierarchy(Path("/sys/fs/cgroup/unified"), 2),
    ]


@pytest.fixture
def version1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hierarchies cpuset and pids in ordinary folders, which get the files a kernel would make."""
    mkdir = Path.mkdir

    def kernel_mkdir(path: Path, *args: object, **options: bool) -> None:
        mkdir(path, *args, **options)  # type: ignore[arg-type]
        if "cpuset" in path.parts:
            for name in ("cpuset.cpus", "cpuset.mems"):
                (path / name).touch()

    for name in ("cpuset", "pids", "unified"):
        (tmp_path / name).mkdir()
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-1\n")
    (tmp_path / "cpuset" / "cpuset.mems").write_text("0\n")
    monkeypatch.setattr(Path, "mkdir", kernel_mkdir)
    return tmp_path


def of(root: Path) -> Cgroups:
    return Cgroups(
        [
            Hierarchy(root / "unified", 2),
            Hierarchy(root / "cpuset", 1, frozenset({"cpuset"})),
            Hierarchy(root / "pids", 1, frozenset({"pids"})),
        ]
    )


def test_a_nodes_cgroup_is_made_in_each_hierarchy_and_takes_processes(version1: Path) -> None:
    cgroups = of(version1)
    cgroups.make("conch/node")
    cgroups.make("conch/node")

    assert (version1 / "pids" / "conch" / "node").is_dir()
    assert not (version1 / "unified" / "conch").exists()
    for level in ("conch", "conch/node"):
        assert (version1 / "cpuset" / level / "cpuset.cpus").read_text() == "0-1\n"
        assert (version1 / "cpuset" / level / "cpuset.mems").read_text() == "0\n"


def test_processes_are_tracked_by_part_outside_the_memory_hierarchy(version1: Path) -> None:
    cgroups = of(version1)
    entry = cgroups.entry("etcd")
    assert entry == version1 / "pids" / "conch" / "system" / "etcd" / "cgroup.procs"
    assert cgroups.members("etcd") == set()
    entry.write_text(f"{os.getpid()}\n")
    pod = version1 / "pids" / "conch" / "node" / "kubepods" / "pod1"
    pod.mkdir(parents=True)
    (pod / "cgroup.procs").write_text("4194305\n4194306\n")

    assert cgroups.members("etcd") == {os.getpid()}
    assert cgroups.pids() == {os.getpid(), 4194305, 4194306}


def test_version_2_passes_on_the_controllers_that_there_are(tmp_path: Path) -> None:
    for level in ("", "conch", "conch/node"):
        (tmp_path / level).mkdir(exist_ok=True)
        (tmp_path / level / "cgroup.controllers").write_text("cpuset cpu memory pids misc\n")
    cgroups = Cgroups([Hierarchy(tmp_path, 2)])

    cgroups.make("conch/node")

    for level in ("", "conch", "conch/node"):
        control = (tmp_path / level / "cgroup.subtree_control").read_text()
        assert control == "+cpuset +cpu +memory +pids"
    assert cgroups.entry("etcd") == tmp_path / "conch" / "system" / "etcd" / "cgroup.procs"


def test_a_host_without_cgroups_is_told_so() -> None:
    with pytest.raises(ClusterError, match="no cgroup hierarchy"):
        Cgroups([]).entry("etcd")


def test_removing_takes_all_levels_in_all_hierarchies(version1: Path) -> None:
    cgroups = Cgroups([Hierarchy(version1 / "pids", 1, frozenset({"pids"}))])
    cgroups.make("conch/a/b")
    cgroups.make("conch/c")
    assert cgroups.exists()

    cgroups.remove()

    assert not cgroups.exists()
    assert list((version1 / "pids").iterdir()) == []


def test_a_nodes_processes_are_its_own_and_those_of_its_pods(version1: Path) -> None:
    a100, t4 = settings.NODES
    pids = version1 / "pids" / "conch"
    for place, pid in (
        (f"system/kubelet-{a100.name}", 11),
        (f"system/containerd-{a100.name}", 12),
        (f"{a100.name}/kubepods/pod1", 13),
        (f"system/kubelet-{t4.name}", 21),
        (f"{t4.name}/kubepods/pod2", 22),
        ("system/etcd", 31),
    ):
        (pids / place).mkdir(parents=True)
        (pids / place / "cgroup.procs").write_text(f"{pid}\n")
    assert of(version1).pids_of_node(a100) == {11, 12, 13}
