import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.cluster.cache import Cache
from e2e.images import build, conch, triton
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
