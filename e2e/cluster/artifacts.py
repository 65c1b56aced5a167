"""All that the local cluster is made of, built once and kept in a cache."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.binaries import ALL, CORE, ensure_binaries, ensure_kwok_stages
from e2e.cluster.commands import BuildError
from e2e.cluster.progress import Reporter
from e2e.images.build import ensure_images, ensure_nginx
from e2e.images.oci import Image

__all__ = [
    "ALL",
    "CORE",
    "Artifacts",
    "BuildError",
    "Image",
    "ensure",
    "ensure_binaries",
    "ensure_images",
    "ensure_nginx",
]


@dataclass(frozen=True)
class Artifacts:
    """Where the parts of the cluster lie."""

    bin: Path  # the programs; coredns may be missing, where it could not be built
    images: tuple[Image, ...]  # pause, Triton, HAProxy, Conch
    kwok_stages: Path  # node/fast, node/heartbeat-with-lease, pod/fast: folders of one Stage a file


def ensure(*, report: Reporter, names: Collection[str] = ALL) -> Artifacts:
    """Provides the programs `names`, the images and the stages; builds what the cache lacks.

    Raises BuildError, which names the command that failed and its log.
    """
    ensure_binaries([name for name in CORE if name in names], report=report)
    images = ensure_images(report=report)
    stages = ensure_kwok_stages(report=report)
    # What the cluster can do without comes last.
    return Artifacts(ensure_binaries(names, report=report), images, stages)
