import multiprocessing
import os
import subprocess
import threading
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from e2e.cluster.cache import Cache, default_root, digest, discard


def fill(work: Path) -> None:
    (work / "file").write_text("built")


def count_builds(root: Path, started: Barrier) -> None:
    def build(work: Path) -> None:
        with (root / "builds").open("a") as builds:
            builds.write("x")
        fill(work)

    started.wait(timeout=30)
    Cache(root).ensure("kind", "key", build)


def test_an_entry_is_built_once_and_then_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    builds = []

    def build(work: Path) -> None:
        builds.append(work)
        fill(work)

    assert not cache.holds("kind", "key")
    first = cache.ensure("kind", "key", build)
    second = cache.ensure("kind", "key", build)

    assert first == second == tmp_path / "kind" / "key"
    assert (first / "file").read_text() == "built"
    assert len(builds) == 1
    assert cache.holds("kind", "key")


def test_keys_and_kinds_are_entries_of_their_own(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    folders = {cache.ensure(kind, key, fill) for kind in ("a", "b") for key in ("1", "2")}
    assert len(folders) == 4


def test_a_failed_build_leaves_no_entry_and_no_scratch(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail(work: Path) -> None:
        fill(work)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cache.ensure("kind", "key", fail)

    assert not cache.holds("kind", "key")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (cache.ensure("kind", "key", fill) / "file").exists()


def test_what_a_killed_build_left_is_not_part_of_the_next(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    left = tmp_path / "tmp" / "kind-key"
    left.mkdir(parents=True)
    (left / "half").write_text("")
    assert [path.name for path in cache.ensure("kind", "key", fill).iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_what_is_mounted_in_a_folder_survives_its_removal(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    fill(precious)
    mounted = tmp_path / "folder with space" / "mounted"
    mounted.mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(precious), str(mounted)], check=True)
    discard(mounted.parent)
    assert not mounted.parent.exists()
    assert (precious / "file").exists()


def test_an_entry_is_invisible_until_it_is_complete(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    seen = []

    def build(work: Path) -> None:
        fill(work)
        seen.append(cache.holds("kind", "key"))

    cache.ensure("kind", "key", build)
    assert seen == [False]


def test_processes_that_ask_at_once_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    workers = [context.Process(target=count_builds, args=(tmp_path, barrier)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)

    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (tmp_path / "builds").read_text() == "x"


def test_a_lock_makes_others_wait(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    order: list[str] = []

    def other() -> None:
        with cache.locked("name"):
            order.append("other")

    thread = threading.Thread(target=other)
    with cache.locked("name"):
        thread.start()
        thread.join(timeout=0.2)
        assert thread.is_alive()
        order.append("holder")
    thread.join(timeout=30)
    assert order == ["holder", "other"]


def test_locks_of_different_names_are_independent(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.locked("one"), cache.locked("two"):
        assert {path.name for path in (tmp_path / "locks").iterdir()} == {"one.lock", "two.lock"}


def test_digests_tell_parts_apart() -> None:
    assert digest("a", "b") == digest("a", "b")
    assert len({digest("ab"), digest("a", "b"), digest("", "ab"), digest("b", "a")}) == 4


def test_the_cache_lies_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert default_root() == Path("/elsewhere/conch")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_root() == Path("/home/someone/.cache/conch")


def test_entries_that_were_not_used_for_longest_are_forgotten(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for age, key in enumerate(["app-1", "app-2", "app-3", "app-4", "base-1"]):
        os.utime(cache.ensure("layers", key, fill), (age, age))
    cache.ensure("layers", "app-1", fill)
    cache.forget("layers", "app-", keep=2)
    held = {path.name for path in (tmp_path / "layers").iterdir()}
    assert held == {"app-1", "app-4", "base-1"}


def test_nothing_is_forgotten_where_nothing_is(tmp_path: Path) -> None:
    Cache(tmp_path).forget("layers", "app-", keep=0)
    assert not (tmp_path / "layers").exists()
