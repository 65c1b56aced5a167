import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.cluster.cache import Cache
from e2e.cluster.progress import Reporter, terminal_reporter
from e2e.images import build, conch, debian, haproxy, nginx, pause, triton
from e2e.images.base import wanted
from e2e.images.conch import Project, lay_out_app, read_project, source_files
from e2e.images.oci import Image, Layer, Settings

PROJECT = Project("some-operator", "1.2.3", ("kopf",), (("tool", "package.main:run"),))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    package = tmp_path / "package"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__pycache__" / "main.pyc").write_text("stale")
    (package / "__init__.py").write_text("")
    (package / "main.py").write_text("def run():\n    print('ran')\n")
    (package / "rules.yaml").write_text("a: 1\n")
    return package


class TestBase:
    @pytest.mark.parametrize(
        "path", ["dev/null", "proc/1", "etc/machine-id", "var/cache/apt/archives/a.deb"]
    )
    def test_what_belongs_to_the_machine_is_left_out(self, path: str) -> None:
        assert not wanted(path)

    @pytest.mark.parametrize("path", ["dev", "tmp", "usr/bin/python3", "etc/machine-id.d"])
    def test_all_else_stays(self, path: str) -> None:
        assert wanted(path)


class TestConch:
    def test_the_project_is_read_from_its_file(self, tmp_path: Path) -> None:
        file = tmp_path / "pyproject.toml"
        file.write_text(
            '[project]\nname = "some-operator"\nversion = "1.2.3"\ndependencies = ["kopf"]\n'
            '[project.scripts]\ntool = "package.main:run"\n'
        )
        assert read_project(file) == PROJECT

    def test_leftovers_of_python_are_no_sources(self, source: Path) -> None:
        names = [path.name for path in source_files(source)]
        assert names == ["__init__.py", "main.py", "rules.yaml"]

    def test_the_programs_run_from_where_they_are_laid_out(
        self, source: Path, tmp_path: Path
    ) -> None:
        tree = tmp_path / "tree"
        lay_out_app(source, PROJECT, tree)
        script = tree / "usr/local/bin/tool"
        assert os.access(script, os.X_OK)
        app = tree / "opt/conch/app"
        assert (app / "package/rules.yaml").read_text() == "a: 1\n"
        asked = "import importlib.metadata as m; print(m.version('some-operator'))"
        environment = {**os.environ, "PYTHONPATH": str(app)}
        for command, expected in ([str(script)], "ran\n"), (["-c", asked], "1.2.3\n"):
            done = subprocess.run(
                [sys.executable, *command],
                capture_output=True,
                text=True,
                env=environment,
                check=True,
            )
            assert done.stdout == expected

    def test_sources_name_the_layer(self, source: Path) -> None:
        before = list(conch._fingerprint(source))
        (source / "rules.yaml").write_bytes(b"\xff\x00")
        changed = list(conch._fingerprint(source))
        (source / "rules.yaml").rename(source / "other.yaml")
        assert len({tuple(before), tuple(changed), tuple(conch._fingerprint(source))}) == 3


class TestTriton:
    def test_the_wheels_files_go_where_tritons_images_have_them(self, tmp_path: Path) -> None:
        wheel = tmp_path / "wheel"
        server = wheel / "pytriton" / "tritonserver"
        for name in (
            "bin/tritonserver",
            "backends/python/libtriton_python.so",
            "caches/local/libtritoncache_local.so",
            "python_backend_stubs/3.10/triton_python_backend_stub",
            "python_backend_stubs/3.11/triton_python_backend_stub",
        ):
            (server / name).parent.mkdir(parents=True, exist_ok=True)
            (server / name).write_text(name)
        libraries = wheel / "nvidia_pytriton.libs"
        libraries.mkdir()
        (libraries / "libtritonserver.so").write_text("")
        (libraries / "libpython3-8.so").write_text("")

        target = tmp_path / "opt" / "tritonserver"
        triton.arrange(wheel, target)

        found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
        assert found == {
            "bin/tritonserver",
            "backends/python/libtriton_python.so",
            "backends/python/triton_python_backend_stub",
            "caches/local/libtritoncache_local.so",
            "lib/libtritonserver.so",
        }
        stub = target / "backends/python/triton_python_backend_stub"
        assert "3.11" in stub.read_text()
        assert os.access(stub, os.X_OK)


class TestDebian:
    def test_what_old_packages_have_in_lib_goes_where_the_base_links_to(
        self, tmp_path: Path
    ) -> None:
        for name in ("lib/x/liba.so.1", "usr/lib/x/libb.so.1", "sbin/tool", "etc/conf"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
        (tmp_path / "lib/x/liba.so").symlink_to("liba.so.1")

        debian.merge(tmp_path)

        found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if not p.is_dir()}
        assert found == {
            "usr/lib/x/liba.so.1",
            "usr/lib/x/liba.so",
            "usr/lib/x/libb.so.1",
            "usr/sbin/tool",
            "etc/conf",
        }
        assert (tmp_path / "usr/lib/x/liba.so").is_symlink()
        # A folder in the layer would take the place of the base's link, and with it all libraries.
        assert not (tmp_path / "lib").exists()

    def test_packages_name_the_layer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cache = Cache(tmp_path)
        made = []

        def record(kind: str, key: str, _: object) -> Path:
            made.append((kind, key))
            return tmp_path

        monkeypatch.setattr(Cache, "ensure", lambda _, *words: record(*words))
        monkeypatch.setattr(debian, "load", lambda folder: folder)
        for packages in (["a"], ["a", "b"], ["a"]):
            debian.packages_layer("x", packages, cache=cache, report=terminal_reporter())
        assert {kind for kind, _ in made} == {"layers"}
        assert len({key for _, key in made}) == 2
        assert all(key.startswith("x-") for _, key in made)

    @pytest.mark.parametrize("settings", [haproxy.SETTINGS, nginx.SETTINGS])
    def test_proxies_run_as_nobody_in_particular(self, settings: Settings) -> None:
        assert settings.user == "65532:65532"
        assert "/usr/sbin" in (settings.environment or {})["PATH"].split(":")


class TestBuild:
    @pytest.fixture
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
        """A cache for images whose layers are small files."""

        def layers(name: str) -> object:
            def made(*, cache: Cache, report: Reporter) -> tuple[Layer, ...]:
                assert report is not None
                blob = cache.root / name
                blob.parent.mkdir(parents=True, exist_ok=True)
                blob.write_text(name)
                return (Layer(blob, f"sha256:{name:0>64}", f"sha256:{name:0>64}", len(name)),)

            return made

        for module in (pause, triton, haproxy, nginx, conch):
            name = module.__name__.rpartition(".")[2]
            monkeypatch.setattr(module, f"{name}_layers", layers(name))
        return Cache(tmp_path)

    def test_a_cluster_gets_haproxy_and_no_nginx(self, cache: Cache) -> None:
        found = build.ensure_images(report=terminal_reporter(), cache=cache)
        names = [image.name.rpartition(":")[0] for image in found]
        assert names == [
            "registry.k8s.io/pause",
            "nvcr.io/nvidia/tritonserver",
            "docker.io/library/haproxy",
            "ghcr.io/conch-dev/conch",
        ]
        nginx_image = build.ensure_nginx(report=terminal_reporter(), cache=cache)
        assert nginx_image.name == nginx.NAME
        assert nginx_image.archive.is_file()

    @pytest.mark.parametrize("stem", ["haproxy", "nginx"])
    @pytest.mark.parametrize("kind", ["images", "layers"])
    def test_old_ones_of_a_proxy_are_forgotten(self, cache: Cache, kind: str, stem: str) -> None:
        for number in range(4):
            folder = cache.path(kind, f"{stem}-{number}")
            folder.mkdir(parents=True)
            os.utime(folder, (number, number))
        build._forget_old(cache)
        left = {path.name for path in (cache.root / kind).iterdir()}
        assert left == {f"{stem}-2", f"{stem}-3"}


class TestArchives:
    def image(self, cache: Cache, text: str) -> Image:
        blob = cache.root / f"blob-{text}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_text(text)
        layer = Layer(blob, f"sha256:{text * 64}", f"sha256:{text * 64}", len(text))
        return build._image(f"example/conch:{text}", (layer,), Settings(), cache)

    def test_an_archive_is_written_once(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path)
        first = self.image(cache, "1")
        written = first.archive.stat().st_mtime_ns
        assert self.image(cache, "1") == first
        assert first.archive.stat().st_mtime_ns == written
