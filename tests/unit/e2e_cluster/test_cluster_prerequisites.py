import os
import sys
from pathlib import Path

import pytest

from e2e.cluster import prerequisites
from e2e.cluster.cache import Cache
from e2e.cluster.prerequisites import (
    PREREQUISITES,
    Prerequisite,
    PrerequisiteError,
    describe,
    ensure_prerequisites,
    ensure_program,
    machine_problems,
    missing,
    services_held_back,
)
from e2e.cluster.progress import terminal_reporter

ABSENT = Prerequisite("no-such-runtime", "no-such-package", "runs nothing")
PLUGIN = Prerequisite("no-such-plugin", "plugins", "joins nothing", plugin=True)


@pytest.fixture
def able_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "machine_problems", lambda _: [])


def test_what_is_absent_is_missing_and_what_is_there_is_not() -> None:
    shell = Prerequisite("sh", "dash", "is everywhere")
    assert missing([shell, ABSENT, PLUGIN]) == [ABSENT, PLUGIN]


def test_a_plugin_is_looked_for_in_the_folders_of_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prerequisites, "_CNI_FOLDERS", (tmp_path / "none", tmp_path))
    assert PLUGIN.find() is None
    (tmp_path / "no-such-plugin").write_text("")
    assert PLUGIN.find() == tmp_path / "no-such-plugin"


def test_each_missing_part_is_named_with_its_use_and_package() -> None:
    assert describe([ABSENT, PLUGIN]).splitlines() == [
        "  no-such-runtime (runs nothing): Debian package no-such-package",
        "  no-such-plugin (joins nothing): Debian package plugins",
    ]


def test_programs_are_listed_once() -> None:
    names = [one.program for one in PREREQUISITES]
    assert len(names) == len(set(names))


@pytest.mark.usefixtures("able_machine")
def test_without_apt_all_that_is_missing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prerequisites, "missing", lambda: [ABSENT, PLUGIN])
    monkeypatch.setattr(prerequisites, "find_program", lambda _: None)
    with pytest.raises(PrerequisiteError) as failure:
        ensure_prerequisites(report=terminal_reporter(), cache=Cache(tmp_path))
    assert describe([ABSENT, PLUGIN]) in str(failure.value)


@pytest.mark.usefixtures("able_machine")
def test_packages_are_installed_once_each_with_services_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy-rc.d"
    answers = iter([[PLUGIN, ABSENT, ABSENT], []])
    commands = []

    def record(command: list[str], **_: object) -> None:
        commands.append((command, policy.exists()))

    monkeypatch.setattr(prerequisites, "_POLICY", policy)
    monkeypatch.setattr(prerequisites, "missing", lambda: next(answers))
    monkeypatch.setattr(prerequisites, "find_program", lambda name: Path("/usr/bin") / name)
    monkeypatch.setattr(prerequisites, "_units", set)
    monkeypatch.setattr(prerequisites, "run", record)
    ensure_prerequisites(report=terminal_reporter(), cache=Cache(tmp_path / "cache"))

    assert [command[-1] for command, _ in commands] == ["update", "plugins"]
    assert commands[1][0][-3:] == ["--no-install-recommends", "no-such-package", "plugins"]
    assert all(held for _, held in commands)
    assert not policy.exists()


@pytest.mark.usefixtures("able_machine")
def test_what_apt_did_not_bring_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "_POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(prerequisites, "missing", lambda: [ABSENT])
    monkeypatch.setattr(prerequisites, "run", lambda *_, **__: None)
    with pytest.raises(PrerequisiteError, match="no-such-runtime"):
        ensure_prerequisites(report=terminal_reporter(), cache=Cache(tmp_path / "cache"))


def test_a_program_that_is_there_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prerequisites, "run", lambda *_, **__: pytest.fail("something ran"))
    shell = Prerequisite("sh", "dash", "is everywhere")
    assert ensure_program(shell, report=terminal_reporter(), cache=Cache(tmp_path)).name == "sh"


def test_a_program_that_tests_need_is_installed_once_with_services_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, policy = tmp_path / "bin", tmp_path / "policy-rc.d"
    folder.mkdir()
    commands = []

    def install(command: list[str], **_: object) -> None:
        commands.append((command[-2:], policy.exists()))
        if command[-1] == ABSENT.package:
            (folder / ABSENT.program).touch(mode=0o755)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(prerequisites, "_POLICY", policy)
    monkeypatch.setattr(prerequisites, "_SYSTEM_PATH", ("/usr/bin", str(folder)))
    monkeypatch.setattr(prerequisites, "_units", set)
    monkeypatch.setattr(prerequisites, "run", install)
    for _ in range(2):
        found = ensure_program(ABSENT, report=terminal_reporter(), cache=Cache(tmp_path / "cache"))
        assert found == folder / ABSENT.program
    wanted = ["--no-install-recommends", ABSENT.package]
    assert commands == [(["DPkg::Lock::Timeout=600", "update"], True), (wanted, True)]


def test_who_may_not_install_a_program_is_told_which_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PrerequisiteError, match=r"only root(.|\n)*no-such-package"):
        ensure_program(ABSENT, report=terminal_reporter(), cache=Cache(tmp_path))


def test_an_administrators_service_policy_stands(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("theirs")
    with services_held_back(policy):
        assert policy.read_text() == "theirs"
    assert policy.read_text() == "theirs"


def test_another_system_is_told_to_bring_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    [problem] = machine_problems(tmp_path)
    assert "needs Linux" in problem
    assert "KUBECONFIG" in problem


def test_another_user_is_told_to_be_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert any("needs root" in problem for problem in machine_problems(tmp_path))


def test_a_full_disk_is_told_before_the_first_build_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prerequisites, "_free_bytes", lambda _: 3 << 30)
    assert any("3 are free" in problem for problem in machine_problems(tmp_path))
    (tmp_path / "images").mkdir()
    assert not any("free" in problem for problem in machine_problems(tmp_path))
