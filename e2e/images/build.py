"""Puts the images together."""

import re
from pathlib import Path

from e2e.cluster.cache import Cache, default_root
from e2e.cluster.progress import Reporter
from e2e.images import conch, haproxy, nginx, pause, triton
from e2e.images.oci import Image, Layer, Settings, content_key, write_archive

# How many of each stay: a change of Conch's sources or of a pin makes new ones, and another
# checkout may use the ones before.
_KEPT = (
    ("images", "conch-", 4),
    ("images", "haproxy-", 2),
    ("images", "nginx-", 2),
    ("images", "tritonserver-", 2),
    ("layers", "conch-app-", 4),
    ("layers", "conch-site-", 2),
    ("layers", "haproxy-", 2),
    ("layers", "nginx-", 2),
    ("layers", "triton-libraries-", 2),
    ("layers", "base-", 2),
)


def ensure_images(*, report: Reporter, cache: Cache | None = None) -> tuple[Image, ...]:
    """The images of the cluster: pause, Triton, HAProxy and Conch, in this order.

    Builds what the cache lacks; after a change of Conch's sources alone, that is one small layer.
    Raises BuildError.
    """
    cache = cache or Cache(default_root())
    pausing = pause.pause_layers(cache=cache, report=report)
    serving = triton.triton_layers(cache=cache, report=report)
    routing = haproxy.haproxy_layers(cache=cache, report=report)
    operating = conch.conch_layers(cache=cache, report=report)
    images = (
        _image(pause.NAME, pausing, pause.SETTINGS, cache),
        _image(triton.NAME, serving, triton.SETTINGS, cache),
        _image(haproxy.NAME, routing, haproxy.SETTINGS, cache),
        _image(conch.conch_name(operating), operating, conch.SETTINGS, cache),
    )
    _forget_old(cache)
    return images


def ensure_nginx(*, report: Reporter, cache: Cache | None = None) -> Image:
    """The image of nginx, which no cluster needs: a benchmark gives it to the nodes.

    Builds it unless the cache holds it. Raises BuildError.
    """
    cache = cache or Cache(default_root())
    layers = nginx.nginx_layers(cache=cache, report=report)
    image = _image(nginx.NAME, layers, nginx.SETTINGS, cache)
    _forget_old(cache)
    return image


def _image(name: str, layers: tuple[Layer, ...], settings: Settings, cache: Cache) -> Image:
    def build(work: Path) -> None:
        write_archive(work / "image.tar", name=name, layers=layers, settings=settings)

    stem = re.sub(r"[^a-z0-9.]+", "-", name.rpartition("/")[2])
    folder = cache.ensure("images", f"{stem}@{content_key(layers, settings)}", build)
    return Image(name, folder / "image.tar")


def _forget_old(cache: Cache) -> None:
    for kind, prefix, keep in _KEPT:
        cache.forget(kind, prefix, keep=keep)
