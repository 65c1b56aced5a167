"""nginx, which the front door is measured against: Debian's, under the official image's name."""

from e2e.cluster.cache import Cache
from e2e.cluster.progress import Reporter
from e2e.images.base import USER, base_layer
from e2e.images.debian import packages_layer
from e2e.images.oci import Layer, Settings

NAME = "docker.io/library/nginx:1.22"
SETTINGS = Settings(
    # What goes wrong before the configuration is read would else need a file of its own.
    command=("nginx", "-e", "stderr", "-g", "daemon off;"),
    environment={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
    user=f"{USER}:{USER}",
)


def nginx_layers(*, cache: Cache, report: Reporter) -> tuple[Layer, ...]:
    """The image's layers, lowest first."""
    return (
        base_layer(cache=cache, report=report),
        packages_layer("nginx", ["nginx-light"], cache=cache, report=report),
    )
