"""The agent of a node's cache: it opens, bounds and evicts, and trusts no tenant."""

import fcntl
import json
import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conch.clients.node_cache import Filled, NodeCache, read_limits
from conch.clients.node_cache_agent import OWN, Agent, Bounds, size_of
from conch.clients.node_cache_metrics import CacheMetrics
from conch.clients.node_cache_rounds import Rounds

UID = "11111111-2222-3333-4444-555555555555"
POD = "digits-1_aaaaaaaa-2222-3333-4444-555555555555"
OTHER = "digits-2_bbbbbbbb-2222-3333-4444-555555555555"
MIB = 1 << 20
NOW = 1_800_000_000.0


@dataclass
class FakeFacts:
    """The API server's answers: all lives, but for what is named; nothing where it is down."""

    dead: set[str] = field(default_factory=set)
    down: bool = False
    asked: int = 0

    def pod_lives(self, namespace: str, name: str, uid: str) -> bool | None:
        self.asked += 1
        return None if self.down else f"{name}_{uid}" not in self.dead

    def namespace_lives(self, name: str, uid: str) -> bool | None:
        return None if self.down else name not in self.dead


class FixedClock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@dataclass
class Node:
    """A node's cache and its agent."""

    root: Path
    facts: FakeFacts
    clock: FixedClock
    agent: Agent

    def tenant(self, name: str = "vision") -> Path:
        path = self.root / f"{name}_{UID}"
        if not path.exists():
            path.mkdir()
            self.agent.open_new()
        return path

    def tree(self, key: str, *, user: str = POD, used: float = 0, tenant: str = "vision") -> Path:
        """Fetch a tree of 1 MiB; it was used so many seconds ago."""

        def fill(folder: Path) -> Filled:
            (folder / "m").write_bytes(b"x" * MIB)
            return Filled(folder / "m", None)

        path = self.tenant(tenant)
        NodeCache(path, user, opening=0.1, patience=0.1).get(key * 64, fill)
        at = int((NOW - used) * 1e9)
        os.utime(path / (key * 64) / "lock", ns=(at, at))
        return path / (key * 64)

    def keys(self, tenant: str = "vision") -> str:
        """The trees that are there, by their keys' first letters."""
        return "".join(sorted(p.parent.name[0] for p in self.tenant(tenant).glob("*/tree")))


def node_of(root: Path, bounds: Bounds) -> Node:
    facts, clock = FakeFacts(), FixedClock()
    agent = Agent(root, bounds, facts, uid=os.getegid(), clock=clock)
    agent.prepare()
    return Node(root, facts, clock, agent)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A cache for three and a half trees."""
    return node_of(tmp_path / "cache", Bounds(3 * MIB + MIB // 2))


def test_a_new_directory_is_opened_to_the_pods_and_to_nobody_else(node: Node) -> None:
    path = node.root / f"vision_{UID}"
    path.mkdir(mode=0o755)
    node.agent.open_new()
    assert stat.S_IMODE(path.stat().st_mode) == 0o1770
    assert path.stat().st_gid == os.getegid()
    assert read_limits(path).size == 3 * MIB + MIB // 2
    before = path.stat().st_ctime_ns
    node.agent.open_new()
    assert path.stat().st_ctime_ns == before


def test_what_is_no_namespaces_directory_is_left_alone(node: Node) -> None:
    for name in ("lost+found", "vision", f"..{UID}", f"vision_{UID[:-1]}"):
        (node.root / name).mkdir(mode=0o700)
    (node.root / f"linked_{UID}").symlink_to("/etc")
    node.agent.open_new()
    node.agent.sweep()
    assert (Path("/etc").stat().st_mode & 0o7777) == 0o755
    assert {stat.S_IMODE(p.lstat().st_mode) for p in node.root.glob("[lv.]*[!5]")} == {0o700}


def test_the_least_used_goes_until_the_bound_holds(node: Node) -> None:
    for key, used in (("a", 10), ("b", 40), ("c", 20), ("d", 30)):
        node.tree(key, used=used)
    node.facts.dead = {POD}
    node.agent.sweep()
    assert node.keys() == "acd"
    assert node.agent.tally.evictions == 1
    assert size_of(node.tenant()) <= 3 * MIB + MIB // 2
    assert list((node.root / OWN).iterdir()) == []


def test_the_bound_is_the_nodes_whatever_the_namespace(node: Node) -> None:
    for tenant in ("one", "two"):
        for key, used in (("a", 10), ("b", 20)):
            node.tree(key, used=used + len(tenant), tenant=tenant)
    node.tree("c", used=90, tenant="one")
    node.facts.dead = {POD}
    node.agent.sweep()
    assert (node.keys("one"), node.keys("two")) == ("a", "ab")
    assert set(node.agent.tally.bytes_by_namespace) == {"one", "two"}


def test_a_hit_makes_a_tree_the_last_to_go(node: Node) -> None:
    for key, used in (("a", 40), ("b", 30), ("c", 20), ("d", 10)):
        node.tree(key, used=used)
    node.tree("a")
    node.facts.dead = {POD}
    node.agent.sweep()
    assert node.keys() == "acd"


def test_what_a_pod_reads_stays_whatever_the_bound(node: Node) -> None:
    for key in "abcde":
        node.tree(key, user=POD)
    node.agent.sweep()
    assert node.keys() == "abcde"
    assert node.agent.tally.excess > MIB
    # Nothing can make room, so that a new tree may not come.
    assert read_limits(node.tenant()).size == 0
    node.facts.dead = {POD}
    node.agent.sweep()
    assert node.keys() == "cde"
    assert node.agent.tally.excess == 0
    assert read_limits(node.tenant()).size == 3 * MIB + MIB // 2


def test_one_of_two_pods_is_enough(node: Node) -> None:
    for key in "abcd":
        node.tree(key, user=POD, used=10)
    node.tree("a", user=OTHER, used=20)
    node.facts.dead = {POD}
    node.agent.sweep()
    assert node.keys() == "acd"


def test_without_an_answer_of_the_api_server_nothing_used_is_evicted(node: Node) -> None:
    for key in "abcde":
        node.tree(key)
    node.facts.dead, node.facts.down = {POD}, True
    node.agent.sweep()
    assert node.keys() == "abcde"


def test_within_the_bound_nobody_is_asked(node: Node) -> None:
    node.tree("a")
    node.agent.sweep()
    assert node.facts.asked == 0


def test_a_mark_that_names_no_pod_keeps_nothing(node: Node) -> None:
    for key in "abcd":
        node.tree(key, user="../../x" if key == "z" else "-not-a-pod")
    node.agent.sweep()
    assert len(node.keys()) == 3
    assert node.facts.asked == 0


@contextmanager
def held(lock: Path) -> Iterator[None]:
    with lock.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def test_a_tree_that_somebody_works_on_stays(node: Node) -> None:
    for key, used in (("a", 40), ("b", 30), ("c", 20), ("d", 10)):
        node.tree(key, used=used)
    node.facts.dead = {POD}
    with held(node.tenant() / ("a" * 64) / "lock"):
        node.agent.sweep()
    assert node.keys() == "acd"


def unfinished(node: Node, key: str, used: float) -> Path:
    entry = node.tree(key, used=used)
    (entry / "tree").rename(entry / "work")
    return entry


def test_half_a_download_goes_once_nobody_goes_on_with_it(node: Node) -> None:
    fresh, old, busy = (unfinished(node, k, u) for k, u in (("a", 60), ("b", 4000), ("c", 4000)))
    with held(busy / "lock"):
        node.agent.sweep()
    assert [p.exists() for p in (fresh, old, busy)] == [True, False, True]


def test_what_must_stay_free_is_made_free(node: Node) -> None:
    node.tree("a")
    node.facts.dead = {POD}
    bounds = Bounds(1 << 50, reserve=1 << 60)
    Agent(node.root, bounds, node.facts, uid=os.getegid(), clock=node.clock).sweep()
    assert node.keys() == ""


def test_strays_go_first(node: Node) -> None:
    for key in "abc":
        node.tree(key)
    (node.tenant() / "mine").mkdir()
    (node.tenant() / "mine/data").write_bytes(b"x" * MIB)
    (node.tenant() / "file").write_bytes(b"x")
    node.agent.sweep()
    assert node.keys() == "abc"
    assert not (node.tenant() / "mine").exists()


def test_no_link_of_a_tenant_is_followed(node: Node, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "m").write_bytes(b"x" * 8 * MIB)
    (victim / POD).write_text("mine")
    (victim / "users").mkdir()
    (victim / "users" / POD).write_text("mine")
    tenant = node.tenant()
    (tenant / ("a" * 64)).symlink_to(victim)
    (tenant / "stray").symlink_to(victim)
    entry = node.tree("b")
    for name in ("users", "tree"):
        (entry / name).rename(entry / f"old-{name}")
        (entry / name).symlink_to(victim)
    (tenant / ("c" * 64)).mkdir()
    (tenant / ("c" * 64) / "lock").symlink_to(victim / "m")
    os.mkfifo(tenant / ("c" * 64) / "fifo")
    (tenant / ("d" * 64)).mkdir()
    os.mkfifo(tenant / ("d" * 64) / "lock")
    (tenant / ".limits.json").unlink()
    (tenant / ".limits.json").symlink_to(victim / "m")
    node.facts.dead = {POD}
    small = Agent(node.root, Bounds(1), node.facts, uid=os.getegid(), clock=node.clock)
    small.tidy()
    with held(victim / "m"):
        small.sweep()
    assert sorted(p.name for p in victim.iterdir()) == [POD, "m", "users"]
    assert (victim / "users" / POD).exists()
    assert (victim / "m").stat().st_size == 8 * MIB
    assert [p.name for p in tenant.iterdir()] == [".limits.json"]


@pytest.fixture
def deep(node: Node) -> Iterator[Path]:
    """A directory so deep that Python's own functions can't remove it."""
    path, start = node.tenant() / "deep", Path.cwd()
    path.mkdir()
    os.chdir(path)
    try:
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
    finally:
        os.chdir(start)
    yield path
    subprocess.run(["rm", "-rf", node.root], check=True)  # nor can pytest


def test_a_deep_tree_ends_neither_the_agent_nor_its_sweep(node: Node, deep: Path) -> None:
    for key in "abcd":
        node.tree(key)
    node.facts.dead = {POD}
    node.agent.sweep()
    assert len(node.keys()) <= 3
    assert not deep.exists()


def test_a_namespace_that_is_gone_takes_its_cache_along(node: Node) -> None:
    node.tree("a", tenant="gone")
    node.tree("a", tenant="used", user=OTHER)
    node.tree("a", tenant="kept")
    node.facts.dead = {POD, "gone", "used"}
    node.agent.tidy()
    names = {p.name.partition("_")[0] for p in node.root.iterdir()}
    assert names == {"used", "kept", OWN}


def test_marks_of_pods_that_are_gone_are_removed(node: Node) -> None:
    entry = node.tree("a", user=POD)
    node.tree("a", user=OTHER)
    node.facts.dead = {POD}
    node.agent.tidy()
    assert [p.name for p in (entry / "users").iterdir()] == [OTHER]
    node.facts.dead, node.facts.down = {OTHER}, True
    node.agent.tidy()
    assert [p.name for p in (entry / "users").iterdir()] == [OTHER]


def test_an_agent_that_starts_again_throws_away_what_it_had_taken_out_of_sight(node: Node) -> None:
    (node.root / OWN / "1").mkdir()
    node.agent.prepare()
    assert list((node.root / OWN).iterdir()) == []


def test_rounds_open_at_once_and_sweep_now_and_then(node: Node) -> None:
    rounds = Rounds(node.agent, node.clock, sweep_every=5, tidy_every=60)
    rounds.once()
    for key in "abcd":
        node.tree(key)
    node.facts.dead = {POD}
    rounds.once()
    assert node.keys() == "abcd"
    (node.root / f"new_{UID}").mkdir()
    node.clock.now += 5
    rounds.once()
    assert len(node.keys()) == 3
    assert (node.root / f"new_{UID}" / ".limits.json").exists()
    ended = threading.Event()
    ended.set()
    rounds.run(ended)


def test_metrics_tell_what_is_there(node: Node) -> None:
    for key in "abcd":
        node.tree(key)
    node.facts.dead = {POD}
    node.agent.sweep()
    metrics = CacheMetrics(node.agent, Bounds(1234)).collect()
    found = {(s.name, s.labels.get("namespace")): s.value for m in metrics for s in m.samples}
    assert found["conch_cache_size_bytes", None] == 1234
    assert found["conch_cache_trees", None] == 3
    assert found["conch_cache_evictions_total", None] == 1
    assert found["conch_cache_evicted_bytes_total", None] > MIB
    assert 3 * MIB < found["conch_cache_bytes", "vision"] < 3.2 * MIB


def test_the_agent_shows_that_it_lives_and_writes_little(node: Node) -> None:
    limits = node.tenant() / ".limits.json"
    os.utime(limits, (NOW - 50, NOW - 50))
    node.agent.sweep()
    assert limits.stat().st_mtime == NOW - 50
    node.clock.now += 20
    node.agent.sweep()
    assert limits.stat().st_mtime != NOW - 50
    limits.unlink()
    node.agent.sweep()
    assert limits.exists()


def test_limits_are_told_in_bytes(node: Node) -> None:
    told = json.loads((node.tenant() / ".limits.json").read_text())
    assert told == {"size": 3 * MIB + MIB // 2, "reserve": 0}
