"""The Kubernetes kinds that Conch reads or writes; known in advance, so nothing is discovered."""

from dataclasses import dataclass

from conch.api.crd import KINDS
from conch.api.names import GROUP, VERSION


@dataclass(frozen=True)
class ResourceKind:
    """How the API server addresses a kind."""

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The apiVersion of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version


_BUILT_IN = (
    ResourceKind("Node", "nodes", namespaced=False),
    ResourceKind("Namespace", "namespaces", namespaced=False),
    ResourceKind("Pod", "pods"),
    ResourceKind("Service", "services"),
    ResourceKind("ServiceAccount", "serviceaccounts"),
    ResourceKind("ConfigMap", "configmaps"),
    ResourceKind("Secret", "secrets"),
    ResourceKind("Event", "events"),
    ResourceKind("PersistentVolume", "persistentvolumes", namespaced=False),
    ResourceKind("PersistentVolumeClaim", "persistentvolumeclaims"),
    ResourceKind("ReplicaSet", "replicasets", "apps"),
    ResourceKind("ControllerRevision", "controllerrevisions", "apps"),
    ResourceKind("PodDisruptionBudget", "poddisruptionbudgets", "policy"),
    ResourceKind("NetworkPolicy", "networkpolicies", "networking.k8s.io"),
    ResourceKind("Lease", "leases", "coordination.k8s.io"),
    ResourceKind("ResourceSlice", "resourceslices", "resource.k8s.io", namespaced=False),
    ResourceKind("ResourceClaim", "resourceclaims", "resource.k8s.io"),
    ResourceKind("ResourceClaimTemplate", "resourceclaimtemplates", "resource.k8s.io"),
)
_OWN = tuple(ResourceKind(k.kind, k.plural, GROUP, VERSION, namespaced=k.namespaced) for k in KINDS)

RESOURCES: dict[str, ResourceKind] = {r.kind: r for r in (*_BUILT_IN, *_OWN)}
"""By kind; the kinds that Conch touches have names of their own."""

CHILDREN = (
    "ServiceAccount",
    "ControllerRevision",
    "ConfigMap",
    "PersistentVolumeClaim",
    "Service",
    "PodDisruptionBudget",
    "ReplicaSet",
)
"""Kinds that a ModelService owns, all labelled as managed by Conch."""
NETWORK_POLICY = "NetworkPolicy"
"""Another that it owns, where services are isolated."""

OF_DRA = ("ResourceSlice", "ResourceClaim", "ResourceClaimTemplate")
"""Kinds of Dynamic Resource Allocation, touched only where the installation wants it; API servers
before Kubernetes 1.34 may lack them."""
CLAIM_TEMPLATE = "ResourceClaimTemplate"
"""The one of them that a ModelService owns."""
