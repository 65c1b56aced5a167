"""The programs of the cluster, each built once from its Go module."""

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.cache import Build, Cache, default_root, digest
from e2e.cluster.commands import BuildError
from e2e.cluster.golang import Package, find_go
from e2e.cluster.progress import Reporter

KUBERNETES_VERSION = "v1.34.4"
KWOK_VERSION = "v0.7.0"
HELM_VERSION = "v3.19.4"
PROMETHEUS_VERSION = "3.13.5"
KEDA_MODULE, KEDA_VERSION = "github.com/kedacore/keda/v2", "v2.21.0"

_MAJOR, _MINOR, _PATCH = KUBERNETES_VERSION.removeprefix("v").split(".")
_RECIPE = "1"  # raise it when the way of building changes


@dataclass(frozen=True)
class Program:
    """One program of the cluster."""

    name: str
    package: Package
    optional: bool = False  # the cluster runs without it

    @property
    def key(self) -> str:
        """Names this build in the cache."""
        tags = (f"-tags={tag}" for tag in self.package.tags)
        return f"{self.name}-{self.package.version}-{digest(_RECIPE, repr(self.package), *tags)}"


def _kubernetes(name: str) -> Program:
    stamps = {
        "gitVersion": KUBERNETES_VERSION,
        "gitMajor": _MAJOR,
        "gitMinor": _MINOR,
        "gitTreeState": "clean",
    }
    places = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    package = Package(
        module="k8s.io/kubernetes",
        version=KUBERNETES_VERSION,
        path=f"k8s.io/kubernetes/cmd/{name}",
        stamps=tuple((f"{place}.{key}", stamps[key]) for place in places for key in stamps),
        siblings=f"v0.{_MINOR}.{_PATCH}",
    )
    return Program(name, package)


def _etcd() -> Program:
    module = "go.etcd.io/etcd/server/v3"
    return Program("etcd", Package(module, "v3.6.16", module))


def _kwok() -> Program:
    module = "sigs.k8s.io/kwok"
    stamps = ((f"{module}/pkg/consts.Version", KWOK_VERSION),)
    return Program("kwok", Package(module, KWOK_VERSION, f"{module}/cmd/kwok", stamps))


def _helm() -> Program:
    module = "helm.sh/helm/v3"
    # What `helm template` and `helm lint` take the cluster's version to be.
    versions = [
        (f"{module}/pkg/{place}.k8sVersion{part}", value)
        for place in ("chartutil", "lint/rules")
        for part, value in (("Major", _MAJOR), ("Minor", _MINOR))
    ]
    stamps = ((f"{module}/internal/version.version", HELM_VERSION), *versions)
    return Program("helm", Package(module, HELM_VERSION, f"{module}/cmd/helm", stamps))


def _prometheus() -> Program:
    # Not Debian's, which cannot discover pods. Other discoveries would double the build's time.
    module = "github.com/prometheus/prometheus"
    major, minor, patch = PROMETHEUS_VERSION.split(".")
    package = Package(
        module=module,
        version=f"v0.{major}{minor:0>2}.{patch}",  # the scheme by which it numbers its module
        path=f"{module}/cmd/prometheus",
        stamps=(("github.com/prometheus/common/version.Version", PROMETHEUS_VERSION),),
        tags=("remove_all_sd", "enable_kubernetes_sd"),
    )
    return Program("prometheus", package)


def _coredns() -> Program:
    module = "github.com/coredns/coredns"
    return Program("coredns", Package(module, "v1.15.0", module), optional=True)


def _of_main(name: str, module: str, version: str, path: str = "") -> Program:
    return Program(name, Package(module, version, f"{module}{path}"))


# Servers that models are downloaded from, for tests: no cluster needs them.
MODEL_SERVERS = (
    _of_main("versitygw", "github.com/versity/versitygw", "v1.8.0", "/cmd/versitygw"),
    _of_main("fake-gcs-server", "github.com/fsouza/fake-gcs-server", "v1.56.1"),
    _of_main("registry", "github.com/distribution/distribution/v3", "v3.1.2", "/cmd/registry"),
)


def _keda(name: str) -> Program:
    stamps = ((f"{KEDA_MODULE}/version.Version", KEDA_VERSION.removeprefix("v")),)
    path = f"{KEDA_MODULE}/cmd/{name}"
    return Program(f"keda-{name}", Package(KEDA_MODULE, KEDA_VERSION, path, stamps))


# What Conch's scaling is measured against, on the cluster: no cluster needs them.
RIVALS = (_keda("operator"), _keda("adapter"))
# In the order in which they are built: what a cluster cannot start without comes first.
PROGRAMS = (
    _kubernetes("kube-apiserver"),
    _etcd(),
    _kubernetes("kubectl"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kubelet"),
    _kubernetes("kube-proxy"),
    _prometheus(),
    _kwok(),
    _helm(),
    _coredns(),
)
ALL = tuple(program.name for program in PROGRAMS)
CORE = tuple(program.name for program in PROGRAMS if not program.optional)


def ensure_binaries(
    names: Collection[str] = ALL, *, report: Reporter, cache: Cache | None = None
) -> Path:
    """The folder that holds the programs `names`, and those that were built before.

    Builds what the cache lacks. Raises BuildError; an optional program that can't be built is
    only reported, so look whether its file is there. ValueError for a name that is unknown.
    """
    programs = (*PROGRAMS, *MODEL_SERVERS, *RIVALS)
    if unknown := set(names) - {program.name for program in programs}:
        raise ValueError(f"no such program: {', '.join(sorted(unknown))}")
    cache = cache or Cache(default_root())
    folder = cache.root / "bin" / digest(*(program.key for program in PROGRAMS))
    folder.mkdir(parents=True, exist_ok=True)
    for program in programs:
        if program.name in names:
            _provide(program, folder, cache, report)
    return folder


def ensure_kwok_stages(*, report: Reporter, cache: Cache | None = None) -> Path:
    """The stages that kwok ships, in the folders node/fast, node/heartbeat-with-lease, pod/fast and others.

    Each file holds one Stage, so a folder can be given to kwok file by file.
    """
    cache = cache or Cache(default_root())

    def build(work: Path) -> None:
        go = find_go(cache, report, cache.logs / "kwok.log")
        source = go.module_folder("sigs.k8s.io/kwok", KWOK_VERSION) / "kustomize" / "stage"
        for folder in ("node/*", "pod/*"):
            for path in source.glob(f"{folder}/*-*.yaml"):
                target = work / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)

    return cache.ensure("kwok-stages", KWOK_VERSION, build)


def ensure_keda_crds(*, report: Reporter, cache: Cache | None = None) -> Path:
    """The folder of the CustomResourceDefinitions that KEDA ships."""
    cache = cache or Cache(default_root())

    def build(work: Path) -> None:
        go = find_go(cache, report, cache.logs / "keda-crds.log")
        source = go.module_folder(KEDA_MODULE, KEDA_VERSION) / "config" / "crd" / "bases"
        for path in source.glob("*.yaml"):
            shutil.copyfile(path, work / path.name)

    return cache.ensure("keda-crds", KEDA_VERSION, build)


def _provide(program: Program, folder: Path, cache: Cache, report: Reporter) -> None:
    try:
        entry = cache.ensure("programs", program.key, _builder(program, cache, report))
    except BuildError as error:
        if not program.optional:
            raise
        report.info(f"{program.name} could not be built; going on without it: {error}")
        return
    _link(folder / program.name, entry / program.name)


def _builder(program: Program, cache: Cache, report: Reporter) -> Build:
    def build(work: Path) -> None:
        log = cache.logs / f"{program.name}.log"
        log.unlink(missing_ok=True)
        go = find_go(cache, report, log)
        scratch = work / "module"
        with report.step(f"building {program.name} {program.package.version}"):
            go.build(program.package, work=scratch, output=work / program.name)
        shutil.rmtree(scratch)

    return build


def _link(link: Path, target: Path) -> None:
    """Makes `link` point at `target`, at no moment being absent."""
    relative = os.path.relpath(target, link.parent)
    if link.is_symlink() and str(link.readlink()) == relative:
        return
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(relative)
    fresh.replace(link)
