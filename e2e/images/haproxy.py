"""HAProxy for the front door: Debian's, under the name of the official image of its version."""

from e2e.cluster.cache import Cache
from e2e.cluster.progress import Reporter
from e2e.images.base import USER, base_layer
from e2e.images.debian import packages_layer
from e2e.images.oci import Layer, Settings

NAME = "docker.io/library/haproxy:2.6"
SETTINGS = Settings(
    entrypoint=("haproxy",),
    environment={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
    user=f"{USER}:{USER}",
)


def haproxy_layers(*, cache: Cache, report: Reporter) -> tuple[Layer, ...]:
    """The image's layers, lowest first."""
    return (
        base_layer(cache=cache, report=report),
        packages_layer("haproxy", ["haproxy"], cache=cache, report=report),
    )
