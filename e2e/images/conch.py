"""Conch's own image, from the sources of this checkout."""

import compileall
import py_compile
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.cache import Cache, digest
from e2e.cluster.progress import Reporter
from e2e.images import pip
from e2e.images.base import PYTHON, USER, base_key, base_layer, compile_python, unpack_base
from e2e.images.oci import Layer, Settings, content_key, load, pack

REPOSITORY = "ghcr.io/conch-dev/conch"
SETTINGS = Settings(
    entrypoint=("conch",),
    environment={
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/tmp",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    },
    user=f"{USER}:{USER}",
)

_ROOT = Path(__file__).resolve().parents[2]
_SITE = "opt/conch/site"  # what Conch needs
_APP = "opt/conch/app"  # Conch
_RECIPE = "1"  # raise it when the way of building changes
_SCRIPT = """\
#!/usr/bin/python3
import sys

from {module} import {attribute}

sys.exit({attribute}())
"""


@dataclass(frozen=True)
class Project:
    """What the image needs to know of pyproject.toml."""

    name: str
    version: str
    dependencies: tuple[str, ...]
    scripts: tuple[tuple[str, str], ...]  # program, "module:attribute"


def read_project(file: Path = _ROOT / "pyproject.toml") -> Project:
    """Reads the parts of `file` that the image is made from."""
    facts = tomllib.loads(file.read_text())["project"]
    return Project(
        name=facts["name"],
        version=facts["version"],
        dependencies=tuple(facts["dependencies"]),
        scripts=tuple(sorted(facts.get("scripts", {}).items())),
    )


def conch_layers(*, cache: Cache, report: Reporter) -> tuple[Layer, ...]:
    """The image's layers, lowest first; only the last changes with the sources."""
    project = read_project()
    return (
        base_layer(cache=cache, report=report),
        _site_layer(project, cache, report),
        _app_layer(project, cache),
    )


def conch_name(layers: tuple[Layer, ...]) -> str:
    """The image's full name, with a tag that changes with what is in it."""
    return f"{REPOSITORY}:{read_project().version}-{content_key(layers, SETTINGS)}"


def _site_layer(project: Project, cache: Cache, report: Reporter) -> Layer:
    def build(work: Path) -> None:
        log = cache.logs / "conch-site.log"
        log.unlink(missing_ok=True)
        with report.step("making the layer of Conch's Python packages"):
            root, tree = work / "root", work / "tree"
            unpack_base(root, cache=cache, report=report, log=log)
            pip.install(root / _SITE, project.dependencies, log=log)
            compile_python(root, f"/{_SITE}", log=log)
            (tree / _SITE).parent.mkdir(parents=True)
            (root / _SITE).rename(tree / _SITE)
            _write_path_file(tree)
            pack(tree, work)
            shutil.rmtree(root)
            shutil.rmtree(tree)

    key = digest(_RECIPE, base_key(), *project.dependencies)
    return load(cache.ensure("layers", f"conch-site-{key}", build))


def _write_path_file(tree: Path) -> None:
    # A .pth file, unlike PYTHONPATH, holds for whoever replaces the environment.
    folder = tree / "usr" / "local" / "lib" / f"python{PYTHON}" / "dist-packages"
    folder.mkdir(parents=True)
    (folder / "conch.pth").write_text(f"/{_APP}\n/{_SITE}\n")


def _app_layer(project: Project, cache: Cache) -> Layer:
    source = _ROOT / "operator" / "conch"

    def build(work: Path) -> None:
        tree = work / "tree"
        lay_out_app(source, project, tree)
        pack(tree, work)
        shutil.rmtree(tree)

    key = digest(_RECIPE, repr(project), *_fingerprint(source))
    return load(cache.ensure("layers", f"conch-app-{key}", build))


def _fingerprint(source: Path) -> Iterator[str]:
    # latin-1 maps each byte to one character, whatever a file holds.
    for path in source_files(source):
        yield path.relative_to(source).as_posix()
        yield path.read_bytes().decode("latin-1")


def source_files(source: Path) -> list[Path]:
    """The files of the package under `source`, without what Python leaves beside them."""
    found = (path for path in source.rglob("*") if path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts)


def lay_out_app(source: Path, project: Project, tree: Path) -> None:
    """Lays out under `tree` the package `source`, its programs and its metadata."""
    app = tree / _APP
    for path in source_files(source):
        target = app / source.name / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    if f"{sys.version_info.major}.{sys.version_info.minor}" == PYTHON:
        _compile(app)
    _write_metadata(app, project)
    _write_scripts(tree / "usr" / "local" / "bin", project)


def _compile(app: Path) -> None:
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    # Tracebacks name the file where it will be. A file that does not compile fails when imported.
    compileall.compile_dir(
        app, quiet=2, stripdir=str(app), prependdir=f"/{_APP}", invalidation_mode=unchecked
    )


def _write_metadata(app: Path, project: Project) -> None:
    stem = f"{project.name.replace('-', '_')}-{project.version}"
    folder = app / f"{stem}.dist-info"
    folder.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: {project.name}\nVersion: {project.version}\n"
    (folder / "METADATA").write_text(text)


def _write_scripts(folder: Path, project: Project) -> None:
    folder.mkdir(parents=True)
    for name, reference in project.scripts:
        module, _, attribute = reference.partition(":")
        script = folder / name
        script.write_text(_SCRIPT.format(module=module, attribute=attribute))
        script.chmod(0o755)
