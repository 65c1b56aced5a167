"""The node's cache as pods use it: sharing, crashes, damage, and doing without."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conch.clients import node_cache
from conch.clients.node_cache import CacheUnavailableError, Filled, NodeCache
from conch.clients.source_errors import (
    ChecksumMismatchError,
    SourceUnavailableError,
    SourceUnreachableError,
)

KEY = "a" * 64
ROOT = Path(node_cache.__file__).parents[2]


needs_user = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def cache(root: Path, user: str = "pod_1", **fields: float) -> NodeCache:
    return NodeCache(root, user, **{"opening": 0.1, "patience": 0.3, **fields})


def filling(text: str = "weights") -> Callable[[Path], Filled]:
    def fill(folder: Path) -> Filled:
        (folder / "model").mkdir()
        (folder / "model/model.py").write_text(text)
        return Filled(folder / "model", None)

    return fill


def never(folder: Path) -> Filled:
    raise AssertionError("nothing was to be fetched")


def failing(error: Exception) -> Callable[[Path], Filled]:
    def fill(folder: Path) -> Filled:
        (folder / "half").write_text("half")
        raise error

    return fill


def test_what_was_fetched_once_is_there_for_the_next(root: Path) -> None:
    first = cache(root).get(KEY, filling())
    second = cache(root, "pod_2").get(KEY, never)
    assert (first.hit, second.hit) == (False, True)
    assert first.source == second.source == root / KEY / "tree/files/model"
    assert (second.source / "model.py").read_text() == "weights"
    assert {p.name for p in (root / KEY / "users").iterdir()} == {"pod_1", "pod_2"}
    assert not (root / KEY / "work").exists()


def test_a_single_file_and_its_digest_are_remembered(root: Path) -> None:
    def fill(folder: Path) -> Filled:
        (folder / "m.onnx").write_text("x")
        return Filled(folder / "m.onnx", "d" * 64)

    cache(root).get(KEY, fill)
    found = cache(root).get(KEY, never)
    assert found.source.name == "m.onnx"
    assert found.sha256 == "d" * 64


def test_sources_do_not_meet(root: Path) -> None:
    one = cache(root).get(KEY, filling("one"))
    other = cache(root).get("b" * 64, filling("other"))
    assert (one.source / "model.py").read_text() == "one"
    assert (other.source / "model.py").read_text() == "other"


def _same_size(model: Path) -> None:
    facts = (model / "model.py").stat()
    (model / "model.py").write_text("poisons")
    os.utime(model / "model.py", ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _replaced(model: Path) -> None:
    (model / "new").write_text("poisons")
    (model / "new").rename(model / "model.py")


def _linked(model: Path) -> None:
    (model / "model.py").unlink()
    (model / "model.py").symlink_to("/etc/passwd")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "written over, its old time put back": _same_size,
    "truncated": lambda model: os.truncate(model / "model.py", 1),
    "replaced": _replaced,
    "linked": _linked,
    "removed": lambda model: (model / "model.py").unlink(),
    "added to": lambda model: (model / "config.pbtxt").write_text("x"),
    "seal removed": lambda model: (model.parents[1] / "seal.json").unlink(),
    "seal cut": lambda model: os.truncate(model.parents[1] / "seal.json", 5),
    "seal of another kind": lambda model: (model.parents[1] / "seal.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_tree_is_fetched_anew(root: Path, damage: Callable[[Path], object]) -> None:
    damage(cache(root).get(KEY, filling()).source)
    again = cache(root).get(KEY, filling("again"))
    assert not again.hit
    assert (again.source / "model.py").read_text() == "again"
    assert [p.name for p in again.source.iterdir()] == ["model.py"]
    assert cache(root).get(KEY, never).hit


def test_a_seal_that_leads_out_of_its_tree_is_not_followed(root: Path) -> None:
    source = cache(root).get(KEY, filling()).source
    seal = source.parents[1] / "seal.json"
    told = json.loads(seal.read_text())
    seal.write_text(json.dumps({**told, "source": "../../../../other"}))
    with pytest.raises(CacheUnavailableError, match="leads out"):
        cache(root).get(KEY, never)


def test_faults_of_the_source_are_the_callers(root: Path) -> None:
    for error in (ChecksumMismatchError("other"), SourceUnavailableError("404")):
        with pytest.raises(type(error)):
            cache(root).get(KEY, failing(error))
        assert not (root / KEY / "work").exists()
    assert not cache(root).get(KEY, filling()).hit


def test_what_was_cut_off_is_gone_on_with(root: Path) -> None:
    with pytest.raises(SourceUnreachableError):
        cache(root).get(KEY, failing(SourceUnreachableError("reset")))

    def rest(folder: Path) -> Filled:
        half = folder / "half"
        half.write_text(half.read_text() + "-half")
        return Filled(half, None)

    assert cache(root).get(KEY, rest).source.read_text() == "half-half"


def test_what_an_earlier_boot_left_is_thrown_away(root: Path) -> None:
    with pytest.raises(SourceUnreachableError):
        cache(root).get(KEY, failing(SourceUnreachableError("reset")))
    (root / KEY / "work/boot").write_text("another")
    found = cache(root).get(KEY, filling())
    assert [p.name for p in (root / KEY / "tree/files").iterdir()] == [found.source.name]


DISK = {
    "full": OSError(errno.ENOSPC, "No space left on device"),
    "over quota": OSError(errno.EDQUOT, "Quota exceeded"),
    "read-only": OSError(errno.EROFS, "Read-only file system"),
}


@pytest.mark.parametrize("fault", DISK.values(), ids=DISK)
def test_a_disk_that_fails_is_no_fault_of_the_source(root: Path, fault: OSError) -> None:
    told = SourceUnavailableError("can't be unpacked")
    told.__cause__ = fault
    for error in (fault, told):
        with pytest.raises(CacheUnavailableError, match=str(fault.strerror)[:8]):
            cache(root).get(KEY, failing(error))
        assert not (root / KEY / "work").exists()


def test_a_source_larger_than_the_cache_is_not_fetched_into_it(root: Path) -> None:
    (root / ".limits.json").write_text(json.dumps({"size": 1000, "reserve": 0}))
    with pytest.raises(CacheUnavailableError, match="takes 1001 bytes"):
        cache(root).get(KEY, never, size=lambda: 1001)
    assert not cache(root).get(KEY, filling(), size=lambda: 1000).hit


def test_what_must_stay_free_stays_free(root: Path) -> None:
    (root / ".limits.json").write_text(json.dumps({"size": 1 << 60, "reserve": 1 << 60}))
    with pytest.raises(CacheUnavailableError, match="are free"):
        cache(root).get(KEY, never)


@pytest.mark.parametrize("told", ["", "[]", '{"size": "x"}', '{"size": null}'])
def test_limits_that_say_nothing_forbid_nothing(root: Path, told: str) -> None:
    (root / ".limits.json").write_text(told)
    assert not cache(root).get(KEY, filling()).hit


def test_nothing_is_added_while_nobody_keeps_the_bound(root: Path) -> None:
    cache(root).get(KEY, filling())
    limits = root / ".limits.json"
    limits.write_text(json.dumps({"size": 1 << 60, "reserve": 0}))
    silent = limits.stat().st_mtime - node_cache.SILENT_S - 5
    os.utime(limits, (silent, silent))
    assert cache(root).get(KEY, never).hit
    with pytest.raises(CacheUnavailableError, match="agent has given no sign"):
        cache(root).get("b" * 64, never)


def test_without_the_directory_one_does_without(tmp_path: Path) -> None:
    with pytest.raises(CacheUnavailableError, match="does its agent run"):
        cache(tmp_path / "absent").get(KEY, never)


def test_a_lock_that_nobody_works_under_is_waited_for_only_so_long(root: Path) -> None:
    (root / KEY).mkdir()
    with (root / KEY / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        began = time.monotonic()
        with pytest.raises(CacheUnavailableError, match="gave no sign for"):
            cache(root).get(KEY, never)
        assert time.monotonic() - began < 5


def test_who_waits_for_a_lock_sees_that_its_entry_was_evicted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = node_cache._lock

    def evicted_meanwhile(descriptor: int) -> bool:
        monkeypatch.setattr(node_cache, "_lock", lock)
        (root / KEY).rename(root / "gone")
        return lock(descriptor)

    monkeypatch.setattr(node_cache, "_lock", evicted_meanwhile)
    found = cache(root).get(KEY, filling())
    assert found.source.exists()
    with (root / KEY / "lock").open() as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)


SLOW = """
import sys, time
from pathlib import Path
from conch.clients import node_cache
from conch.clients.node_cache import Filled, NodeCache

node_cache.BEAT_S = 0.2

def fill(folder):
    print("filling", flush=True)
    (folder / "m").write_text("half")
    time.sleep(float(sys.argv[3]))
    (folder / "m").write_text("whole")
    return Filled(folder / "m", None)

found = NodeCache(Path(sys.argv[1]), sys.argv[2], patience=2).get("a" * 64, fill)
print("hit" if found.hit else "filled", found.source.read_text())
"""


def slow(root: Path, user: str, seconds: float) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, str(root), user, str(seconds)],
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_of_those_who_come_at_once_one_fetches_and_the_others_wait(root: Path) -> None:
    # Longer than the patience with one who shows no sign of life.
    racing = [slow(root, f"pod_{n}", 2.5) for n in range(4)]
    said = sorted(p.communicate(timeout=30)[0].split("\n")[-2] for p in racing)
    assert said == ["filled whole", "hit whole", "hit whole", "hit whole"]


def test_one_killed_midway_leaves_the_next_nothing_half(root: Path) -> None:
    with slow(root, "pod_1", 60) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "filling\n"
        killed.send_signal(signal.SIGKILL)
        killed.wait(timeout=10)
    assert not (root / KEY / "tree").exists()
    found = cache(root, "pod_2").get(KEY, _whole)
    assert found.source.read_text() == "whole"


def _whole(folder: Path) -> Filled:
    (folder / "m").write_text("whole")
    return Filled(folder / "m", None)


def _unprivileged(root: Path, said: "multiprocessing.Queue[str]") -> None:
    os.setgroups([])
    os.setgid(65532)
    os.setuid(65532)
    try:
        cache(root).get(KEY, filling())
        said.put("filled")
    except CacheUnavailableError as error:
        said.put(str(error))


@needs_user
@pytest.mark.parametrize(
    ("mode", "words"), [(0o755, "can't be written to"), (0o1770, "filled")], ids=["closed", "open"]
)
def test_a_directory_that_is_not_opened_is_done_without(root: Path, mode: int, words: str) -> None:
    # However deep the runner puts it: those on the way that let no others through.
    for folder in root.parents:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)
    os.chown(root, 0, 65532)
    root.chmod(mode)
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    child = context.Process(target=_unprivileged, args=(root, said))
    child.start()
    assert words in said.get(timeout=30)
    child.join(timeout=10)
