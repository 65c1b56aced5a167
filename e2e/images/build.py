"""Puts the images together."""

import re
import shutil
from pathlib import Path

from e2e.cluster.cache import Cache, default_root
from e2e.cluster.progress import Reporter
from e2e.images import conch, pause, triton
from e2e.images.oci import Image, Layer, Settings, content_key, write_archive

_KEPT_CONCH = 3  # archives of Conch's image; each change of its sources makes one


def ensure_images(*, report: Reporter, cache: Cache | None = None) -> tuple[Image, ...]:
    """The images of the cluster: pause, Triton and Conch, in this order.

    Builds what the cache lacks; after a change of Conch's sources alone, that is one small layer.
    Raises BuildError.
    """
    cache = cache or Cache(default_root())
    pausing = pause.pause_layers(cache=cache, report=report)
    serving = triton.triton_layers(cache=cache, report=report)
    operating = conch.conch_layers(cache=cache, report=report)
    images = (
        _image(pause.NAME, pausing, pause.SETTINGS, cache),
        _image(triton.NAME, serving, triton.SETTINGS, cache),
        _image(conch.conch_name(operating), operating, conch.SETTINGS, cache),
    )
    _forget_old_conch(cache, images[-1])
    return images


def _image(name: str, layers: tuple[Layer, ...], settings: Settings, cache: Cache) -> Image:
    def build(work: Path) -> None:
        write_archive(work / "image.tar", name=name, layers=layers, settings=settings)

    stem = re.sub(r"[^a-z0-9.]+", "-", name.rpartition("/")[2])
    folder = cache.ensure("images", f"{stem}@{content_key(layers, settings)}", build)
    return Image(name, folder / "image.tar")


def _forget_old_conch(cache: Cache, current: Image) -> None:
    folders = [
        folder
        for folder in (cache.root / "images").glob("conch-*")
        if folder != current.archive.parent
    ]
    folders.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in folders[_KEPT_CONCH - 1 :]:
        shutil.rmtree(folder, ignore_errors=True)
