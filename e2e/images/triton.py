"""NVIDIA's Triton Inference Server, the CPU build that a Python package carries."""

import shutil
from pathlib import Path

from e2e.cluster.cache import Cache, digest
from e2e.cluster.progress import Reporter
from e2e.images import pip
from e2e.images.base import PYTHON, base_key, base_layer, compile_python, unpack_base
from e2e.images.oci import Layer, Settings, load, machine_architecture, pack

NAME = "nvcr.io/nvidia/tritonserver:24.10-py3"  # the release of NVIDIA's that holds 2.51
SETTINGS = Settings(
    command=("tritonserver",),
    environment={
        "PATH": "/opt/tritonserver/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LD_LIBRARY_PATH": "/opt/tritonserver/lib",
        "PYTHONDONTWRITEBYTECODE": "1",
    },
)

_SERVER = "nvidia-pytriton==0.7.0"
# What models of the python backend may import. Closed: these need nothing else. The stub of 2.51
# was built for numpy 1: under numpy 2 it reads strides wrongly, and models see other values than
# were sent.
_LIBRARIES = (
    "numpy==1.26.4",
    "onnxruntime==1.24.4",
    "flatbuffers==25.12.19",
    "packaging==26.3",
    "protobuf==6.33.6",
)
_RECIPE = "1"  # raise it when the way of building changes


def triton_layers(*, cache: Cache, report: Reporter) -> tuple[Layer, ...]:
    """The image's layers, lowest first."""
    return (
        base_layer(cache=cache, report=report),
        _library_layer(cache, report),
        _server_layer(cache, report),
    )


def _server_layer(cache: Cache, report: Reporter) -> Layer:
    def build(work: Path) -> None:
        log = cache.logs / "triton.log"
        log.unlink(missing_ok=True)
        with report.step(f"making the layer of Triton ({_SERVER})"):
            pip.install(work / "wheel", [_SERVER], log=log, closed=True)
            arrange(work / "wheel", work / "tree" / "opt" / "tritonserver")
            pack(work / "tree", work)
            shutil.rmtree(work / "wheel")
            shutil.rmtree(work / "tree")

    key = digest(_RECIPE, _SERVER, machine_architecture())
    return load(cache.ensure("layers", f"triton-{key}", build))


def arrange(wheel: Path, server: Path) -> None:
    """Moves what the unpacked wheel has of Triton to where NVIDIA's images have it."""
    packaged = wheel / "pytriton" / "tritonserver"
    server.parent.mkdir(parents=True)
    stub = packaged / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
    shutil.move(stub, packaged / "backends" / "python" / stub.name)
    shutil.rmtree(packaged / "python_backend_stubs")
    shutil.move(packaged, server)
    shutil.move(wheel / "nvidia_pytriton.libs", server / "lib")
    for library in (server / "lib").glob("libpython*"):
        library.unlink()  # for the stubs of other Pythons
    for program in (server / "bin" / "tritonserver", server / "backends" / "python" / stub.name):
        program.chmod(0o755)


def _library_layer(cache: Cache, report: Reporter) -> Layer:
    def build(work: Path) -> None:
        log = cache.logs / "triton-libraries.log"
        log.unlink(missing_ok=True)
        python = f"usr/local/lib/python{PYTHON}"
        root, tree = work / "root", work / "tree"
        with report.step("making the layer of Triton's Python packages"):
            unpack_base(root, cache=cache, report=report, log=log)
            pip.install(root / python / "dist-packages", _LIBRARIES, log=log, closed=True)
            # Debian's Python looks in the one, others (and people) look in the other.
            (root / python / "site-packages").symlink_to("dist-packages")
            compile_python(root, f"/{python}/dist-packages", log=log)
            (tree / python).parent.mkdir(parents=True)
            (root / python).rename(tree / python)
            pack(tree, work)
            shutil.rmtree(root)
            shutil.rmtree(tree)

    key = digest(_RECIPE, base_key(), *_LIBRARIES)
    return load(cache.ensure("layers", f"triton-libraries-{key}", build))
