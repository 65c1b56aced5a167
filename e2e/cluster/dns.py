"""Cluster DNS: CoreDNS as a process of the host, behind the Service kube-dns."""

from pathlib import Path

from e2e.cluster import settings
from e2e.cluster.api import Api
from e2e.cluster.parts import HttpProbe, Part
from e2e.cluster.pki import DNS, Pki
from e2e.cluster.processes import Command, write_atomically
from e2e.cluster.services import Port, allow_reading, publish
from e2e.cluster.settings import Layout

_HEALTH_PORT = 10054


def available(bin_folder: Path) -> bool:
    """Whether CoreDNS is there: the cluster runs without it, but then pods know no names."""
    return (bin_folder / "coredns").exists()


def prepare(layout: Layout, pki: Pki, url: str) -> None:
    """Writes its configuration."""
    pki.write_kubeconfig(DNS, url, _kubeconfig(layout))
    write_atomically(_config(layout), corefile(layout))


def part(layout: Layout, bin_folder: Path) -> Part:
    argv = (str((bin_folder / "coredns").resolve()), f"-conf={_config(layout)}")
    command = Command("coredns", argv, (_config(layout), _kubeconfig(layout)))
    return Part(command, HttpProbe(f"http://{settings.ADDRESS}:{_HEALTH_PORT}/health"))


def install(api: Api) -> None:
    """Lets it read what names stand for, and lets pods reach it as Service kube-system/kube-dns."""
    slices = ("discovery.k8s.io", "endpointslices")
    allow_reading(api, DNS.user, [("", "services"), ("", "pods"), ("", "namespaces"), slices])
    ports = [
        Port("dns", 53, settings.DNS_PORT, "UDP"),
        Port("dns-tcp", 53, settings.DNS_PORT, "TCP"),
    ]
    address = settings.DNS_SERVICE_ADDRESS
    publish(api, namespace="kube-system", name="kube-dns", address=address, ports=ports)


def corefile(layout: Layout) -> str:
    """Answers for cluster.local alone: pods have no way out of the cluster."""
    return f"""\
.:{settings.DNS_PORT} {{
    bind {settings.ADDRESS}
    errors
    health {settings.ADDRESS}:{_HEALTH_PORT}
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {_kubeconfig(layout)}
        pods insecure
        ttl 5
    }}
    cache 5
}}
"""


def _config(layout: Layout) -> Path:
    return layout.dns / "Corefile"


def _kubeconfig(layout: Layout) -> Path:
    return layout.dns / "kubeconfig"
