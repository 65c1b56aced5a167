from pathlib import Path

import pytest

from e2e.cluster import binaries, golang
from e2e.cluster.binaries import ALL, CORE, PROGRAMS, ensure_binaries
from e2e.cluster.cache import Cache
from e2e.cluster.commands import BuildError
from e2e.cluster.golang import Go, Package, parse_version, wrapper_module
from e2e.cluster.progress import terminal_reporter


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for the compiler; lists what was built."""
    names: list[str] = []

    def build(_: Go, package: Package, *, work: Path, output: Path) -> None:
        work.mkdir()
        names.append(output.name)
        output.write_text(package.version)

    monkeypatch.setattr(binaries, "find_go", lambda *_: Go(Path("go"), Path("log")))
    monkeypatch.setattr(Go, "build", build)
    return names


def test_only_what_is_asked_for_is_built_and_only_once(tmp_path: Path, built: list[str]) -> None:
    cache, report = Cache(tmp_path), terminal_reporter()
    folder = ensure_binaries(["kubectl", "etcd"], report=report, cache=cache)
    assert ensure_binaries(["kubectl"], report=report, cache=cache) == folder
    assert built == ["etcd", "kubectl"]
    assert {path.name for path in folder.iterdir()} == {"etcd", "kubectl"}
    assert (folder / "kubectl").read_text() == binaries.KUBERNETES_VERSION


def test_a_new_version_is_built_beside_the_old_one(
    tmp_path: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, report = Cache(tmp_path), terminal_reporter()
    old = ensure_binaries(["etcd"], report=report, cache=cache)
    newer = binaries.Program("etcd", Package("example/etcd", "v9.9.9", "example/etcd"))
    monkeypatch.setattr(binaries, "PROGRAMS", (newer,))
    new = ensure_binaries(["etcd"], report=report, cache=cache)
    assert built == ["etcd", "etcd"]
    assert (old / "etcd").read_text() == "v3.6.16"
    assert (new / "etcd").read_text() == "v9.9.9"


def test_an_optional_program_may_fail_and_a_needed_one_may_not(
    tmp_path: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BuildError("`go build` exited with 1")

    monkeypatch.setattr(Go, "build", fail)
    cache, report = Cache(tmp_path), terminal_reporter()
    folder = ensure_binaries(["coredns"], report=report, cache=cache)
    assert not (folder / "coredns").exists()
    with pytest.raises(BuildError, match="go build"):
        ensure_binaries(["etcd"], report=report, cache=cache)
    assert built == []


def test_rivals_of_benchmarks_are_built_for_them_alone(tmp_path: Path, built: list[str]) -> None:
    cache, report = Cache(tmp_path), terminal_reporter()
    ensure_binaries(report=report, cache=cache)
    assert not [name for name in built if name.startswith("keda")]
    ensure_binaries(["keda-adapter"], report=report, cache=cache)
    assert built[-1] == "keda-adapter"


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kube-apisever"):
        ensure_binaries(["kube-apisever"], report=terminal_reporter(), cache=Cache(tmp_path))


def test_keys_change_with_whatever_changes_the_program() -> None:
    package = Package("example/m", "v1.0.0", "example/m/cmd")
    changed = [
        Package("example/m", "v1.0.1", "example/m/cmd"),
        Package("example/m", "v1.0.0", "example/m/other"),
        Package("example/m", "v1.0.0", "example/m/cmd", stamps=(("example/m.v", "1"),)),
        Package("example/m", "v1.0.0", "example/m/cmd", tags=("small",)),
    ]
    keys = {binaries.Program("p", one).key for one in [package, *changed]}
    assert len(keys) == 5


def test_the_compiler_gets_flags_tags_and_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(
        golang, "run", lambda command, **_: commands.append([str(word) for word in command])
    )
    package = Package("example/m", "v1.0.0", "example/m/cmd", tags=("small", "fast"))
    go = Go(Path("/go"), tmp_path / "log")
    go.build(package, work=tmp_path / "work", output=tmp_path / "program")
    [command] = commands
    assert command[:2] == ["/go", "build"]
    assert command[command.index("-tags") + 1] == "small,fast"
    assert command[command.index("-ldflags") + 1] == package.ldflags
    assert command[-3:] == ["-o", str(tmp_path / "program"), "example/m/cmd"]
    assert (tmp_path / "work" / "go.mod").read_text() == wrapper_module(package, [])


def test_the_wrapper_requires_the_module_and_replaces_its_own_libraries() -> None:
    package = Package("k8s.io/kubernetes", "v1.34.4", "k8s.io/kubernetes/cmd/x", siblings="v0.34.4")
    lines = wrapper_module(package, ["k8s.io/client-go", "k8s.io/api"]).splitlines()
    assert lines[0].startswith("module ")
    assert "require k8s.io/kubernetes v1.34.4" in lines
    assert lines[-2:] == [
        "replace k8s.io/api => k8s.io/api v0.34.4",
        "replace k8s.io/client-go => k8s.io/client-go v0.34.4",
    ]


def test_kubernetes_is_stamped_with_its_version() -> None:
    apiserver = next(one for one in PROGRAMS if one.name == "kube-apiserver").package
    version = binaries.KUBERNETES_VERSION
    assert f"-X k8s.io/component-base/version.gitVersion={version}" in apiserver.ldflags
    assert apiserver.siblings == version.replace("v1.", "v0.", 1)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go1.26.8\n", (1, 26)),
        ("go1.9", (1, 9)),
        ("go1.27-devel_abc", (1, 27)),
        ("devel +abc", (0, 0)),
        ("", (0, 0)),
    ],
)
def test_versions_of_go(text: str, version: tuple[int, int]) -> None:
    assert parse_version(text) == version


def test_the_dns_server_is_built_last_and_may_be_missing() -> None:
    assert ALL[-1] == "coredns"
    assert set(ALL) - set(CORE) == {"coredns"}
