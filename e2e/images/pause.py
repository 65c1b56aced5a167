"""The container that holds a pod's namespaces: it waits, and reaps orphans."""

import shutil
from pathlib import Path

from e2e.cluster.cache import Cache, digest
from e2e.cluster.golang import find_go
from e2e.cluster.progress import Reporter
from e2e.images.oci import Layer, Settings, load, machine_architecture, pack

NAME = "registry.k8s.io/pause:3.10"
SETTINGS = Settings(entrypoint=("/pause",), user="65535:65535")

_SOURCE = Path(__file__).with_name("pause.go")


def pause_layers(*, cache: Cache, report: Reporter) -> tuple[Layer, ...]:
    """The image's only layer: one static program."""

    def build(work: Path) -> None:
        log = cache.logs / "pause.log"
        log.unlink(missing_ok=True)
        tree = work / "tree"
        with report.step("making the pause image"):
            find_go(cache, report, log).build_source(
                _SOURCE, work=work / "module", output=tree / "pause"
            )
            pack(tree, work)
            shutil.rmtree(work / "module")
            shutil.rmtree(tree)

    key = digest(_SOURCE.read_text(), machine_architecture())
    return (load(cache.ensure("layers", f"pause-{key}", build)),)
